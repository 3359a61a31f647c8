// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line, parsed by hand.
//!
//! Owns the words a user may type and the defaults behind them. It promises that every rejection names the
//! word it rejects; it reads no file and starts nothing.

use crate::bench;
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
usage: lab run SCENARIO --cpus N [--addonce BINARY] [--deb FILE] [--after RESULT.json] [--release RELEASE]
               [--out FILE.json] [--timeout SECONDS]
                                                --after: the modules that are inserted (floor)
       lab bench --rounds N --cpus N,... --addonce BINARY --out FILE.json [--deb FILE] [--release RELEASE]
               [--timeout SECONDS]
                                                what is measured beside its peers, by turns; what FILE has of this
                                                addonce already is not run again; --deb: a whole Debian boots, too,
                                                as root, stock and with that package
       lab report FILE.json [NEWER.json] --benches DIR
                                                docs/PERFORMANCE.md, of what was measured and docs/PERFORMANCE.in.md;
                                                NEWER: with --release
       lab curves FILE.json                     insert calls and seconds over CPUs, for the example `curves` to draw
       lab demo [SCENARIO...] --cpus N --addonce BINARY [--release RELEASE] [--out FILE.json] [--timeout SECONDS]
                                                stock and then each scenario (service, if none is named): table,
                                                check of each against stock, all results
       lab boot [SCENARIO...] --cpus N --deb FILE [--release RELEASE] [--out FILE.json] [--timeout SECONDS]
                                                a whole Debian from a disk, as root: boot-stock and then each
                                                scenario (boot-service, if none is named): as demo
       lab fixes --addonce BINARY [--cpus N] [--release RELEASE] [--out FILE.json] [--timeout SECONDS]
                                                modules that fail and are fixed: attempts expected and seen
       lab tree [--release RELEASE]             print where the distribution's module tree is (for modprobe -d)
       lab storm RESULT.json                    the storm as addonce saw it, as addonce plot --json prints it
       lab request RESULT.json                  what storms of the kernel's own requests cost (request), beside stock;
                                                fails where that is more than it was to be
       lab request-curves RESULT.json           their memory over time, for the example `curves` to draw
--release: kernel, udev and kmod of another Debian (trixie, sid), not of this host. It is made by debootstrap once, as root.
Scenarios are the directories of tests/vm/scenarios. Files go to target/lab, or to $LAB_DIR.";

/// More CPUs need APIC IDs above 254, and with them an emulated IOMMU.
const MOST_CPUS: u32 = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub scenario: String,
    pub cpus: u32,
    pub addonce: Option<PathBuf>,
    /// The result whose modules are inserted.
    pub after: Option<PathBuf>,
    /// addonce's package.
    pub deb: Option<PathBuf>,
    /// Of Debian: whose kernel, udev and kmod the guest has, if not this host's.
    pub release: Option<String>,
    pub out: Option<PathBuf>,
    pub timeout: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Run(Run),
    /// These scenarios; the reference is run before them.
    Demo {
        reference: &'static str,
        runs: Vec<Run>,
    },
    /// The scenario is `fixes`, and it is judged case by case.
    Fixes(Run),
    Bench(bench::Asked),
    Report {
        result: PathBuf,
        newer: Option<PathBuf>,
        benches: PathBuf,
    },
    Curves(PathBuf),
    Tree {
        release: Option<String>,
    },
    Storm(PathBuf),
    Request(PathBuf),
    RequestCurves(PathBuf),
    Help,
}

pub fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut args = args;
    let command = args.next().ok_or("a command is missing")?;
    let mut words = Vec::new();
    let mut addonce = None;
    let mut deb = None;
    let mut release = None;
    let mut out = None;
    let mut after = None;
    let mut benches = None;
    let mut cpus = None;
    let mut several = Vec::new();
    let mut rounds = None;
    let mut seconds = None;
    let may_run = matches!(command.as_str(), "run" | "demo" | "boot" | "fixes" | "bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--addonce" if may_run => addonce = Some(PathBuf::from(value()?)),
            "--after" if command == "run" => after = Some(PathBuf::from(value()?)),
            "--benches" if command == "report" => benches = Some(PathBuf::from(value()?)),
            "--cpus" if command == "bench" => {
                several =
                    value()?.split(',').map(|n| number(&arg, n, MOST_CPUS)).collect::<Result<_, _>>()?;
            }
            "--rounds" if command == "bench" => rounds = Some(number(&arg, &value()?, 1000)?),
            "--deb" if matches!(command.as_str(), "run" | "boot" | "bench") => {
                deb = Some(PathBuf::from(value()?))
            }
            "--release" if may_run || command == "tree" => release = Some(word(&arg, value()?)?),
            "--out" if may_run => out = Some(PathBuf::from(value()?)),
            "--cpus" if may_run => cpus = Some(number(&arg, &value()?, MOST_CPUS)?),
            "--timeout" if may_run => seconds = Some(number(&arg, &value()?, 86_400)?),
            "--help" | "-h" => return Ok(Command::Help),
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg} for '{command}'")),
            _ => words.push(arg),
        }
    }
    match command.as_str() {
        "run" | "demo" | "boot" | "fixes" => {
            let cpus = cpus.or((command == "fixes").then_some(MOST_CPUS)).ok_or("--cpus N is missing")?;
            let timeout =
                seconds.map_or_else(|| default_timeout(&command, cpus), |s| Duration::from_secs(s.into()));
            let run = |scenario: &str| {
                let (addonce, deb) = (addonce.clone(), deb.clone());
                let (after, release, out) = (after.clone(), release.clone(), out.clone());
                Run { scenario: scenario.into(), cpus, addonce, deb, after, release, out, timeout }
            };
            let beside = |reference: &'static str, default: &str| {
                if words.iter().any(|word| word == reference) {
                    return Err(format!("{command} runs '{reference}' before all others: leave it out"));
                }
                let mut runs: Vec<_> = words.iter().map(|word| run(word)).collect();
                if runs.is_empty() {
                    runs.push(run(default));
                }
                Ok(Command::Demo { reference, runs })
            };
            match command.as_str() {
                "run" => Ok(Command::Run(run(&only(&words, "SCENARIO")?))),
                "demo" => beside("stock", "service"),
                "boot" => beside("boot-stock", "boot-service"),
                _ => none(&words).map(|()| Command::Fixes(run("fixes"))),
            }
        }
        "bench" => none(&words).and_then(|()| {
            Ok(Command::Bench(bench::Asked {
                rounds: rounds.ok_or("--rounds N is missing")?,
                cpus: Some(several).filter(|several| !several.is_empty()).ok_or("--cpus N,... is missing")?,
                addonce: addonce.ok_or("--addonce BINARY is missing")?,
                deb,
                release,
                out: out.ok_or("--out FILE.json is missing")?,
                seconds,
            }))
        }),
        "report" => match words.as_slice() {
            [result, newer @ ..] if newer.len() <= 1 => Ok(Command::Report {
                result: result.into(),
                newer: newer.first().map(PathBuf::from),
                benches: benches.ok_or("--benches DIR is missing")?,
            }),
            _ => Err("report needs FILE.json, and at most one more of a newer release".into()),
        },
        "curves" => only(&words, "FILE.json").map(|file| Command::Curves(file.into())),
        "tree" => none(&words).map(|()| Command::Tree { release }),
        "storm" => only(&words, "RESULT.json").map(|file| Command::Storm(file.into())),
        "request" => only(&words, "RESULT.json").map(|file| Command::Request(file.into())),
        "request-curves" => only(&words, "RESULT.json").map(|file| Command::RequestCurves(file.into())),
        "help" | "--help" | "-h" => Ok(Command::Help),
        _ => Err(format!("unknown command '{command}'")),
    }
}

/// A storm grows with the CPUs, and so does the time the kernel takes to bring them up. A whole Debian is slow.
pub fn default_timeout(command: &str, cpus: u32) -> Duration {
    Duration::from_secs(if cpus <= 64 && command != "boot" { 300 } else { 900 })
}

fn number(option: &str, value: &str, most: u32) -> Result<u32, String> {
    match value.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("{option} takes a number from 1 to {most}, not '{value}'")),
    }
}

/// What becomes a part of file names.
fn word(option: &str, value: String) -> Result<String, String> {
    match !value.is_empty() && value.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
        true => Ok(value),
        false => Err(format!("{option} takes a name in small letters, not '{value}'")),
    }
}

fn only(words: &[String], what: &str) -> Result<String, String> {
    match words {
        [word] => Ok(word.clone()),
        [] => Err(format!("{what} is missing")),
        [_, extra, ..] => Err(format!("'{extra}' is one word too many")),
    }
}

fn none(words: &[String]) -> Result<(), String> {
    words.first().map_or(Ok(()), |word| Err(format!("'{word}' is one word too many")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn the_time_limit_follows_the_number_of_cpus_unless_given() {
        let limit = |line| match parsed(line) {
            Ok(Command::Run(run)) => run.timeout.as_secs(),
            Ok(Command::Demo { runs, .. }) => runs[0].timeout.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(limit("run stock --cpus 64"), 300);
        assert_eq!(limit("run stock --cpus 255"), 900);
        assert_eq!(limit("run stock --cpus 255 --timeout 7"), 7);
        assert_eq!(limit("boot --cpus 64"), 900);
    }

    #[test]
    fn a_demo_and_a_boot_run_their_own_reference_and_what_is_named_or_else_one() {
        let seen = |line| match parsed(line) {
            Ok(Command::Demo { reference, runs }) => {
                (reference, runs.into_iter().map(|run| run.scenario).collect::<Vec<_>>().join(" "))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(seen("demo --cpus 4"), ("stock", "service".into()));
        assert_eq!(seen("boot --cpus 4 --deb x"), ("boot-stock", "boot-service".into()));
        assert_eq!(seen("boot boot-purged x --cpus 4"), ("boot-stock", "boot-purged x".into()));
    }

    #[test]
    fn a_bench_boots_a_debian_if_a_package_is_named() {
        let seen = |line| match parsed(line) {
            Ok(Command::Bench(asked)) => asked.deb,
            other => panic!("{other:?}"),
        };
        assert_eq!(seen("bench --cpus 8 --rounds 3 --addonce a --out b"), None);
        assert_eq!(seen("bench --cpus 8 --rounds 3 --addonce a --out b --deb c"), Some("c".into()));
    }

    #[test]
    fn every_rejection_names_the_word_it_rejects() {
        for (line, named) in [
            ("run stock --cpus 300", "300"),
            ("run stock --cpus x", "'x'"),
            ("run stock --cpus", "--cpus"),
            ("run stock", "--cpus"),
            ("run --cpus 4", "SCENARIO"),
            ("run stock twice --cpus 4", "twice"),
            ("fly stock", "fly"),
            ("demo stock --cpus 4", "stock"),
            ("demo --cpus 4 --deb x", "--deb"),
            ("boot boot-stock --cpus 4", "boot-stock"),
            ("demo", "--cpus"),
            ("fixes again", "again"),
            ("tree --cpus 4", "--cpus"),
            ("storm", "RESULT.json"),
            ("bench --cpus 8,300 --rounds 3", "300"),
            ("bench --rounds 3 --addonce a --out b", "--cpus"),
            ("bench --cpus 8 --addonce a --out b", "--rounds"),
            ("bench --cpus 8,64 --rounds 3 --addonce a", "--out"),
            ("report --benches dir", "FILE.json"),
            ("report one.json", "--benches"),
            ("run floor --cpus 8 --rounds 3", "--rounds"),
            ("run stock --cpus 8 --release ../x", "../x"),
            ("bench --cpus 8 --rounds 3 --addonce a --out b --release ../x", "../x"),
            ("report one.json two.json three.json --benches dir", "FILE.json"),
        ] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
