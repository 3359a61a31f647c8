// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce replay`: a capture once more, through the core.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::options::{CoreOptions, unreadable};
use super::query::{list, show};
use crate::control::json;
use crate::daemon::events::{Event, of_kernel};
use crate::daemon::log_lines;
use crate::fatal::Fatal;
use crate::kmod::{Resolver, Tree};
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
    tree: Tree,
}

impl Command {
    /// Replays and prints.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let declared = match self.world.as_ref().or(self.kernel_answers.as_ref()) {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(unreadable(path))?;
                FakeModules::parse(&text).map_err(unreadable(path))?
            }
            None => FakeModules::default(),
        };
        let told = match self.world {
            Some(_) => self.simulate(declared)?,
            None => self.simulate(TreeWorld::new(Resolver::open(self.tree.clone())?, declared))?,
        };
        show(self.json, &told, page)
    }

    fn simulate<W: World>(&self, world: W) -> Result<Value, Fatal> {
        let path = &self.file;
        let from: Box<dyn BufRead> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(BufReader::new(File::open(path).map_err(unreadable(path))?)),
        };
        let mut simulation = Simulation::new(world, self.limits.limits());
        let (mut uevents, mut malformed, mut time) = (0, 0, Duration::ZERO);
        for record in Reader::new(from).map_err(unreadable(path))? {
            let Record { at, datagram } = record.map_err(unreadable(path))?;
            // An edited capture may go back in time; the core's time does not.
            simulation.pass(at.saturating_sub(simulation.now()));
            time = time.max(at);
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
        simulation.finish();
        let stats = simulation.core.stats();
        Ok(json!({
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
            "add_once": simulation.published.iter().map(json::add_once).collect::<Vec<_>>(),
        }))
    }
}

fn page(told: &Value) -> String {
    let lines: String = list(told, "/add_once").iter().map(|load| log_lines::line(load) + "\n").collect();
    let seconds = told["seconds"].as_f64().unwrap_or_default();
    let [uevents, malformed, requests, no_module, duplicates, attempts, live, failed] =
        ["uevents", "malformed", "requests", "no_module", "duplicates", "attempts", "live", "failed"]
            .map(|key| &told[key]);
    format!(
        "{lines}replay: {uevents} uevents in {seconds:.1} s, {malformed} not understood: {requests} requests, \
         {no_module} without a module, {duplicates} duplicates, {attempts} attempts, {live} live, {failed} failed\n"
    )
}
