// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce replay`: a capture once more, through the core.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::options::{CoreOptions, TreeOptions};
use super::query::{print, print_json};
use crate::control::json;
use crate::daemon::events::{Event, of_kernel};
use crate::daemon::log_lines;
use crate::fatal::Fatal;
use crate::replay::fake::FakeModules;
use crate::replay::simulation::{Simulation, World};
use crate::replay::tree::TreeWorld;
use crate::uevent::capture::{Reader, Record};
use crate::uevent::message;

/// Show what addonce makes of a recorded storm: one line per load, and the sum. Nothing is loaded.
///
/// The uevents go through the core with a simulated kernel, in the capture's own time but as fast as it goes. What the
/// capture says of modules (`add@/module/...`) is what another loader did, and is passed over.
#[derive(Args, Debug)]
pub struct Command {
    /// The capture; - is standard input.
    file: PathBuf,
    /// What the simulated kernel says of modules, in lines such as `pcc_cpufreq => ENODEV`, `slow takes 2000`,
    /// `kvm is live`; all others are live at once.
    #[arg(long, value_name = "FILE")]
    kernel_answers: Option<PathBuf>,
    /// Such lines that say everything, aliases (`cpu:* -> acpi_cpufreq`) and dependencies (`kvm_amd needs kvm`)
    /// too: no module tree is read.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel_answers", "modules_dir", "kernel", "config"])]
    world: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: CoreOptions,
    #[command(flatten)]
    tree: TreeOptions,
}

/// What the capture held.
#[derive(Default)]
struct Contents {
    uevents: u64,
    malformed: u64,
    time: Duration,
}

impl Command {
    /// Replays and prints.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let records = open(&self.file)?;
        match &self.world {
            Some(world) => self.simulate(records, declaration(world)?),
            None => {
                let kernel =
                    self.kernel_answers.as_deref().map_or(Ok(FakeModules::default()), declaration)?;
                self.simulate(records, TreeWorld::new(self.tree.open()?, kernel))
            }
        }
    }

    fn simulate<W: World>(&self, records: Records, world: W) -> Result<ExitCode, Fatal> {
        let mut simulation = Simulation::new(world, self.limits.limits());
        let mut contents = Contents::default();
        for record in records {
            let Record { at, datagram } = record?;
            // An edited capture may go back in time; the core's time does not.
            simulation.pass(at.saturating_sub(simulation.now()));
            contents.time = contents.time.max(at);
            contents.uevents += 1;
            match message::parse(&datagram) {
                Ok(uevent) => of_kernel(&uevent, false, |event| {
                    if let Event::Request(request) = event {
                        simulation.request(request.alias, request.origin);
                    }
                }),
                Err(_) => contents.malformed += 1,
            }
        }
        simulation.finish();
        self.tell(&simulation, &contents)?;
        Ok(ExitCode::SUCCESS)
    }

    fn tell<W>(&self, simulation: &Simulation<W>, contents: &Contents) -> Result<(), Fatal> {
        let (stats, Contents { uevents, malformed, time }) = (simulation.core.stats(), contents);
        if self.json {
            let ended: Vec<_> = simulation.published.iter().map(json::add_once).collect();
            print_json(&json!({
                "uevents": uevents,
                "malformed": malformed,
                "seconds": time.as_secs_f64(),
                "requests": stats.requests,
                "no_module": stats.no_module,
                "duplicates": stats.duplicates(),
                "deferred": stats.deferred,
                "attempts": stats.attempts,
                "live": stats.live,
                "failed": stats.failed,
                "add_once": ended,
            }))?;
            return Ok(());
        }
        let mut text: String = simulation
            .published
            .iter()
            .map(|record| log_lines::line(&json::add_once(record)) + "\n")
            .collect();
        text += &format!(
            "replay: {uevents} uevents in {:.1} s, {malformed} not understood: {} requests, {} without a module, \
             {} duplicates, {} attempts, {} live, {} failed\n",
            time.as_secs_f64(),
            stats.requests,
            stats.no_module,
            stats.duplicates(),
            stats.attempts,
            stats.live,
            stats.failed
        );
        print(&text).map(drop)
    }
}

type Records = Box<dyn Iterator<Item = Result<Record, Fatal>>>;

/// The records of a file. What cannot be read is named with its line.
fn open(path: &Path) -> Result<Records, Fatal> {
    let unreadable = {
        let path = path.to_owned();
        move |what: &dyn std::fmt::Display| Fatal::Usage(format!("{}: {what}", path.display()))
    };
    let from: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(path).map_err(|error| unreadable(&error))?)),
    };
    let reader = Reader::new(from).map_err(|error| unreadable(&error))?;
    Ok(Box::new(reader.map(move |record| record.map_err(|error| unreadable(&error)))))
}

fn declaration(path: &Path) -> Result<FakeModules, Fatal> {
    let wrong = |what: &dyn std::fmt::Display| Fatal::Usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    FakeModules::parse(&text).map_err(|error| wrong(&error))
}
