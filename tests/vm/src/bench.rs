// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that is measured beside each other: every way to load modules, at every number of CPUs, several times; and, with a
//! package, a whole Debian that boots without and with it.
//!
//! Each way has its turn before any has its next, and another one is first in each round, so that what the host does meets all. The
//! file is whole after every guest, and what is in it is not run again; it never holds the runs of two machines, releases, addonces or
//! packages.

use crate::boots::{self, BOOTS};
use crate::machine::Machine;
use crate::options::{Run, default_timeout};
use crate::result::LabResult;
use crate::scenario::{self, Scenario};
use crate::{host, tools};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// By turns. The floor inserts what stock did before it.
pub const WAYS: [&str; 6] = ["stock", "service", "program", "floor", "scan", "oneliner"];

/// So many of them also with another release: stock, and addonce.
const RELEASE_WAYS: usize = 3;

/// What is asked of it on the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub rounds: u32,
    pub cpus: Vec<u32>,
    pub addonce: PathBuf,
    /// Its package, to be booted with.
    pub deb: Option<PathBuf>,
    /// Of Debian: whose kernel, udev and kmod the guests have, if not this host's. Only [`RELEASE_WAYS`] have their turn then.
    pub release: Option<String>,
    pub out: PathBuf,
    pub seconds: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub machine: Machine,
    /// What its bytes come to: another build is another addonce.
    pub addonce: String,
    /// Where the tree was when the first of them was measured, as git tells it.
    #[serde(default)]
    pub commit: String,
    /// The same of its package, once that is booted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deb: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    pub results: Vec<LabResult>,
}

/// One guest to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    round: u32,
    cpus: u32,
    way: &'static str,
}

impl Turn {
    fn boots(&self) -> bool {
        BOOTS.contains(&self.way)
    }
}

impl Measured {
    pub fn of(&self, way: &str, cpus: u32) -> Vec<&LabResult> {
        self.results.iter().filter(|result| result.scenario == way && result.cpus == cpus).collect()
    }

    /// All but the boots.
    pub fn storms(&self) -> impl Iterator<Item = &LabResult> {
        self.results.iter().filter(|result| result.boot.is_none())
    }

    /// Whether both are of one machine, release and addonce, and of one package, if each has one.
    fn goes_with(&self, other: &Self) -> bool {
        let debs = self.deb.as_ref().zip(other.deb.as_ref());
        (&self.machine, &self.addonce) == (&other.machine, &other.addonce)
            && self.release == other.release
            && debs.is_none_or(|(own, other)| own == other)
    }
}

pub fn read(path: &Path) -> Result<Measured, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{} is not what `lab bench` writes: {e}", path.display()))
}

/// A guest that fails is told and left for the next time; all others have their turn nevertheless.
pub fn run(
    asked: &Asked,
    measure: impl Fn(&Run, Scenario) -> Result<LabResult, String>,
    write: impl Fn(&Path, &Measured) -> Result<(), String>,
) -> Result<(), String> {
    let mut measured = resumed(asked)?;
    let turns = turns(asked, &measured);
    let mut took: Vec<(Turn, Duration)> = Vec::new();
    let mut faults = Vec::new();
    for (nth, turn) in turns.iter().enumerate() {
        let Turn { round, cpus, way } = *turn;
        eprintln!(
            "lab: bench, {} of {}: {way} at {cpus} CPUs, round {round}; about {} min left",
            nth + 1,
            turns.len(),
            left(&turns[nth..], &took).as_secs().div_ceil(60)
        );
        let began = Instant::now();
        let done = one(asked, *turn, &measured, &measure);
        took.push((*turn, began.elapsed()));
        match done.and_then(|result| checked(result, turn, &measured)) {
            Ok(result) => {
                measured.results.push(LabResult { round, ..result });
                write(&asked.out, &measured)?;
            }
            Err(message) => {
                eprintln!("lab: {message}");
                faults.push(format!("{way} at {cpus} CPUs, round {round}"));
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("not measured: {}; the same command again does these alone", faults.join("; ")))
}

/// What addonce costs is of interest only where it does what stock does.
fn checked(result: LabResult, turn: &Turn, measured: &Measured) -> Result<LabResult, String> {
    let stock = match turn.way {
        "service" | "program" => measured.of("stock", turn.cpus),
        "boot-service" => measured.of("boot-stock", turn.cpus),
        _ => return Ok(result),
    };
    let stock = stock.last().ok_or("there is no run of stock's to compare it with")?;
    let faults = result.faults_against(stock);
    if faults.is_empty() { Ok(result) } else { Err(faults.join("\nlab: ")) }
}

fn one(
    asked: &Asked,
    turn: Turn,
    measured: &Measured,
    measure: &impl Fn(&Run, Scenario) -> Result<LabResult, String>,
) -> Result<LabResult, String> {
    let mut scenario = scenario::find(turn.way)?;
    // What a check says to the kernel besides would be measured, too.
    scenario.kernel_words.clear();
    scenario.not_in_initramfs.clear();
    if scenario.needs_order {
        let stock = measured.of("stock", turn.cpus);
        scenario.order = stock.last().map(|stock| stock.order.clone()).unwrap_or_default();
    }
    let command = if turn.boots() { "boot" } else { "bench" };
    let timeout =
        asked.seconds.map_or_else(|| default_timeout(command, turn.cpus), |s| Duration::from_secs(s.into()));
    let addonce = Some(asked.addonce.clone());
    let run = Run {
        release: asked.release.clone(),
        scenario: turn.way.into(),
        cpus: turn.cpus,
        addonce,
        deb: asked.deb.clone(),
        after: None,
        out: None,
        timeout,
    };
    measure(&run, scenario)
}

/// What the file has already, if it is of the same machine, addonce and package; else whoever asks has to say what is to
/// become of it.
fn resumed(asked: &Asked) -> Result<Measured, String> {
    let print = |path: &PathBuf| tools::read(path).map(|bytes| format!("{:016x}", host::fingerprint(&bytes)));
    let (addonce, deb) = (print(&asked.addonce)?, asked.deb.as_ref().map(print).transpose()?);
    let release = asked.release.clone();
    let commit = tools::output("git", &["describe", "--always", "--dirty"], tools::source_dir());
    let commit = commit.map_or_else(|_| "a tree without git".into(), |commit| commit.trim().into());
    let measured = Measured { machine: Machine::read()?, addonce, commit, deb, release, results: Vec::new() };
    if !asked.out.exists() {
        return Ok(measured);
    }
    let before = read(&asked.out)?;
    if !before.goes_with(&measured) {
        let out = asked.out.display();
        return Err(format!(
            "{out} holds runs of another addonce, package, release or machine: remove it, or name another file"
        ));
    }
    Ok(Measured { deb: measured.deb.or(before.deb), ..before })
}

fn turns(asked: &Asked, measured: &Measured) -> Vec<Turn> {
    let mut turns = Vec::new();
    let ways = if asked.release.is_some() { &WAYS[..RELEASE_WAYS] } else { &WAYS[..] };
    for round in 1..=asked.rounds {
        // The first round begins with stock, which the floor and checks go by.
        let first = round as usize - 1;
        let all = |ways: &'static [&str], cpus| {
            let (end, begin) = ways.split_at(first % ways.len());
            begin.iter().chain(end).map(move |&way| Turn { round, cpus, way })
        };
        let storms = asked.cpus.iter().flat_map(|&cpus| all(ways, cpus));
        let sizes =
            boots::CPUS.into_iter().filter(|&cpus| asked.deb.is_some() && (cpus < boots::ONCE || round == 1));
        let boots = sizes.flat_map(|cpus| all(&BOOTS, cpus));
        let missing = |turn: &Turn| measured.of(turn.way, turn.cpus).iter().all(|run| run.round != round);
        turns.extend(storms.chain(boots).filter(missing));
    }
    turns
}

/// How long these will take, by what the same took, or any of the kind at so many CPUs; before the first, by experience.
fn left(turns: &[Turn], took: &[(Turn, Duration)]) -> Duration {
    let mean = |alike: &dyn Fn(&Turn) -> bool| {
        let alike: Vec<_> = took.iter().filter(|(turn, _)| alike(turn)).map(|(_, took)| *took).collect();
        alike.iter().sum::<Duration>().checked_div(alike.len() as u32)
    };
    let expected = |turn: &Turn| {
        let same = mean(&|other| (other.way, other.cpus) == (turn.way, turn.cpus));
        let alike = || mean(&|other| (other.boots(), other.cpus) == (turn.boots(), turn.cpus));
        let usual = if turn.boots() { 150 } else { 25 + u64::from(turn.cpus) / 4 };
        same.or_else(alike).unwrap_or(Duration::from_secs(usual))
    };
    turns.iter().map(expected).sum()
}

#[cfg(test)]
#[path = "bench_tests.rs"]
mod tests;
