// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce explain`: what a modalias, a module or a device resolves to, and what loading it takes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::query::{list, show, text};
use crate::daemon::requests::CameTo;
use crate::escape::escape;
use crate::fatal::Fatal;
use crate::kmod::{Resolver, Tree};
use crate::once::{
    Candidate, InitState, Limits, Modules, Origin, Plan, Request, Status, Time, Verdict, Work,
};
use crate::replay::{Replayed, Simulation};
use crate::uevent::sysfs::modaliases;

/// Show what a modalias, a module's name or a device below /sys resolves to and, for each module, the steps that
/// loading it takes, in order. Nothing is loaded.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias, a module's name, or a path below /sys.
    #[arg(value_name = "MODALIAS|MODULE|SYSPATH")]
    what: OsString,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tree: Tree,
}

impl Command {
    /// Resolves and prints. The exit code is 1 where no module is known.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let mut resolver = Resolver::open(self.tree)?;
        let alias = match self.what.as_bytes().starts_with(b"/") {
            true => modalias_of(Path::new(&self.what))?,
            false => self.what.into_vec(),
        };
        let candidates = resolver.resolve(&alias).into_iter();
        let modules: Vec<_> = candidates.map(|candidate| explain(&mut resolver, candidate)).collect();
        let (kernel, alias) = (kernels(resolver, &alias)?, escape(&alias));
        let told = json!({ "alias": alias, "modules": modules, "kernel": kernel });
        show(self.json, &told, |_| page(&alias, &modules, &kernel))?;
        Ok(if modules.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn modalias_of(device: &Path) -> Result<Vec<u8>, Fatal> {
    let path = device.display();
    let device = if device.is_file() { device.parent().unwrap_or(device) } else { device };
    let found = modaliases(device, true).map_err(|error| {
        let uevent = device.join("uevent");
        let why = format!("it is no device's directory below /sys: {}: {error}", uevent.display());
        Fatal::Usage(format!("{path}: {why}"))
    })?;
    // Of several udev keeps the last.
    let none = || format!("{path}: this device has no MODALIAS, so no module is looked up for it");
    found.into_iter().next_back().ok_or_else(|| Fatal::Usage(none()))
}

fn explain(resolver: &mut Resolver, candidate: Candidate) -> Value {
    let Candidate { module, verdict, policy, options } = candidate;
    let plans = resolver.plans(&module, options.as_deref(), &mut Default::default());
    let inside = resolver.name_inside(&module);
    let in_kernel = inside.as_deref().unwrap_or(&module);
    let is_live = verdict == Verdict::Load && resolver.initstate(in_kernel) == InitState::Live;
    let unless = policy.unless.as_deref();
    let verdict = match verdict {
        Verdict::Builtin => "builtin",
        Verdict::Blacklisted => "blacklisted",
        Verdict::Load if policy.rules_out(|path| resolver.exists(path)) => "ruled_out",
        Verdict::Load => "load",
    };
    let steps: Vec<_> = plans.iter().filter_map(step).collect();
    json!({
        "module": &*module,
        "name_inside": inside.as_deref(),
        "verdict": verdict,
        "live": is_live,
        "unless": unless,
        "plan": steps,
    })
}

/// What a request of the kernel's own for this would come to, with `addonce daemon --kernel-requests` and nothing live.
fn kernels(resolver: Resolver, alias: &[u8]) -> Result<String, Fatal> {
    let mut simulation =
        Simulation::new(Replayed::new(resolver, "").map_err(Fatal::System)?, Limits::default());
    simulation.ask(Request { alias, origin: Origin::Kernel, client: Some(0) });
    simulation.pass(Time::ZERO);
    let Some((_, answers)) = simulation.answers.pop() else {
        return Ok("is left to modprobe: an install command takes part, or there is no file".into());
    };
    let live = answers.iter().filter(|(_, status)| *status == Status::Live).map(|(name, _)| &**name);
    Ok(match (CameTo::of(&answers), live.collect::<Vec<_>>().join(" ")) {
        (CameTo::NoModule, _) => "fails: there is no module".into(),
        (CameTo::Refused, _) => "is refused: hwdb rules it out".into(),
        (CameTo::Failed, _) => "fails".into(),
        (CameTo::Done, loaded) if loaded.is_empty() => "succeeds, and loads nothing".into(),
        (CameTo::Done, loaded) => format!("loads {loaded}"),
    })
}

fn step(plan: &Plan) -> Option<String> {
    match &plan.work {
        Work::Insert { file, options } => {
            let line = format!("insmod {} {}", file.display(), options.to_string_lossy());
            Some(line.trim_end().to_owned())
        }
        Work::Install { command, .. } => Some(format!("install {}", command.to_string_lossy())),
        Work::Builtin => Some(format!("builtin {}", plan.module)),
        Work::Missing => None,
    }
}

fn page(alias: &str, modules: &[Value], kernel: &str) -> String {
    let mut page = match modules.len() {
        0 => format!("{alias}: no module\n"),
        1 => format!("{alias}: 1 module\n"),
        n => format!("{alias}: {n} modules, tried in this order\n"),
    };
    for module in modules {
        let verdict = text(module, "/verdict");
        let why = match (verdict, module["unless"].as_str()) {
            ("blacklisted", _) => {
                " (modprobe.d or the kernel command line; loads by its own name only)".into()
            }
            ("builtin", _) => " (part of the kernel image)".into(),
            ("ruled_out", Some(path)) => format!(" (hwdb: {path} exists)"),
            ("ruled_out", None) => " (hwdb: ADDONCE=never)".into(),
            _ if module["live"] == true => " (it is live already)".into(),
            _ => String::new(),
        };
        page += &format!("{}: {}{why}\n", text(module, "/module"), verdict.replace('_', " "));
        if let Some(inside) = module["name_inside"].as_str() {
            page += &format!("  (the kernel will know it as {inside}: the file has another name)\n");
        }
        list(module, "/plan").iter().for_each(|step| page += &line(text(step, "")));
    }
    page + &format!("a request of the kernel's own {kernel}\n")
}

/// A step, with a word on a file that is not there.
fn line(step: &str) -> String {
    let file = step.strip_prefix("insmod ").map(|step| step.split(' ').next().unwrap_or_default());
    let missing = file.is_some_and(|file| !Path::new(file).exists());
    format!("  {step}{}\n", if missing { " (this file is missing)" } else { "" })
}
