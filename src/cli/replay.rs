// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce replay`: a capture once more, through the core.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::options::{CoreOptions, unreadable};
use super::query::{fill, list, number, show};
use crate::control::json;
use crate::daemon::events::{Event, of_kernel};
use crate::fatal::Fatal;
use crate::kmod::{Resolver, Tree};
use crate::once::{Limits, Time};
use crate::replay::{Replayed, Simulation, World};
use crate::uevent::capture::{Reader, Record};
use crate::uevent::message;

const SUM: &str = "{/malformed} not understood: {/requests} requests, {/no_module} without a module, {/duplicates} duplicates, \
                   {/attempts} attempts, {/live} live, {/failed} failed\n";
const LEFT: &str = "replay: not done 10 minutes later: {/unfinished} modules loading, or to be tried again\n";

/// So long it goes on after the last uevent, as what the kernel is always short of memory for is tried again for ever. It is longer
/// than udev waits for a load, and than a backoff is by default.
const AFTERWARDS: Time = Time::from_secs(600);

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
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: CoreOptions,
    #[command(flatten)]
    tree: Tree,
}

impl Command {
    /// Replays and prints.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let answers = match &self.kernel_answers {
            Some(path) => std::fs::read_to_string(path).map_err(unreadable(path))?,
            None => String::new(),
        };
        let named = self.kernel_answers.unwrap_or_default();
        let world = Replayed::new(Resolver::open(self.tree)?, &answers).map_err(unreadable(&named))?;
        let path = &self.file;
        let from: Box<dyn BufRead> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(BufReader::new(File::open(path).map_err(unreadable(path))?)),
        };
        show(self.json, &replay(from, world, self.limits.limits()).map_err(unreadable(path))?, page)
    }
}

/// What becomes of a capture in this world. The error names the line that cannot be read.
pub fn replay(from: impl BufRead, world: impl World, limits: Limits) -> Result<Value, String> {
    let mut simulation = Simulation::new(world, limits);
    let (mut uevents, mut malformed) = (0, 0);
    for record in Reader::new(from)? {
        let Record { at, datagram } = record?;
        // An edited capture may go back in time; the core's time does not.
        simulation.pass(at.saturating_sub(simulation.now));
        uevents += 1;
        match message::parse(&datagram) {
            Ok(uevent) => of_kernel(&uevent, false, |event| {
                if let Event::Request(request) = event {
                    simulation.ask(request);
                }
            }),
            Err(_) => malformed += 1,
        }
    }
    let seconds = simulation.now.as_secs_f64();
    simulation.pass(AFTERWARDS);
    let (stats, failures) = (simulation.core.stats(), simulation.core.failures());
    let pending = failures.filter(|(_, failure)| failure.pending.is_some());
    Ok(json!({
        "uevents": uevents,
        "malformed": malformed,
        "seconds": seconds,
        "requests": stats.requests,
        "no_module": stats.no_module,
        "duplicates": stats.duplicates(),
        "deferred": stats.deferred,
        "attempts": stats.attempts,
        "live": stats.live,
        "failed": stats.failed,
        "unfinished": simulation.core.loads().count() + pending.count(),
        "add_once": simulation.published.iter().map(|record| json::add_once(record, false)).collect::<Vec<_>>(),
    }))
}

/// The same as text: a line for each load, and the sum.
pub fn page(told: &Value) -> String {
    let lines: String = list(told, "/add_once").iter().map(|load| json::line(load) + "\n").collect();
    let seconds = told["seconds"].as_f64().unwrap_or_default();
    let sum = fill(SUM, told);
    let left = if number(told, "/unfinished") > 0 { fill(LEFT, told) } else { String::new() };
    format!("{lines}replay: {} uevents in {seconds:.1} s, {sum}{left}", number(told, "/uevents"))
}
