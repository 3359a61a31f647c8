// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce explain`: which modules a name or a device stands for, what became of them and why, and what loading them takes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use super::blame::{asked_by, loads, time};
use super::failed;
use super::options::{SocketOption, unreadable};
use super::query::{list, number, published, show, text};
use crate::daemon::requests::CameTo;
use crate::escape::{escape, head};
use crate::fatal::Fatal;
use crate::format::wrapped;
use crate::kmod::{Resolver, Tree};
use crate::once::{
    Candidate, InitState, Limits, Modules, Origin, Plan, Request, Status, Time, Verdict, Work,
};
use crate::replay::{Replayed, Simulation};
use crate::uevent::sysfs::modaliases;

/// Say of a module, a MODALIAS or a device what is loaded for it, who asked, and why not.
///
/// It also says what to type, and the steps that loading takes. Nothing is loaded, and no daemon is needed.
#[derive(Args, Debug)]
pub struct Command {
    /// A module, a modalias, a path below /sys, a device node, a network interface, or a PCI address.
    #[arg(value_name = "WHAT", required = true)]
    what: Vec<OsString>,
    /// Print JSON, an object for each.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
    #[command(flatten)]
    tree: Tree,
}

/// What is remembered: the loads that have ended, and the failures.
struct Memory {
    loads: Vec<Value>,
    failures: Vec<Value>,
}

impl Command {
    /// Resolves and prints. The exit code is 1 where no module is known for one of them.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let socket = &self.socket.socket;
        // Where neither is there, nothing is remembered.
        let failures = published(socket).map(|published| list(&published, "/failures").to_vec());
        let memory =
            Memory { loads: loads(socket).unwrap_or_default(), failures: failures.unwrap_or_default() };
        let mut code = ExitCode::SUCCESS;
        for (nth, what) in self.what.iter().enumerate() {
            let mut resolver = Resolver::open(self.tree.clone())?;
            let (mut alias, mut device) = (what.as_bytes().to_vec(), None);
            let mut candidates = resolver.resolve(&alias);
            if candidates.is_empty() {
                if let Some(place) = place_of(&self.tree.sysfs, what)? {
                    let (found, modalias) = modalias_of(&place, Path::new(what))?;
                    candidates = resolver.resolve(&modalias);
                    (alias, device) = (modalias, Some(found));
                }
            }
            let modules: Vec<_> =
                candidates.into_iter().map(|candidate| explain(&mut resolver, candidate, &memory)).collect();
            if modules.is_empty() {
                code = ExitCode::FAILURE;
            }
            let (kernel, alias) = (kernels(resolver, &alias)?, escape(&alias));
            let path = device.as_ref().map(|device| escape(device.as_os_str().as_bytes()));
            let driver = device.and_then(|device| std::fs::read_link(device.join("driver")).ok());
            let driver = driver.as_ref().and_then(|link| link.file_name()?.to_str());
            let told = json!({ "alias": alias, "device": path, "driver": driver, "modules": modules, "kernel": kernel });
            show(self.json, &told, |told| {
                let page = page(told, &self.tree.directory(), &memory.failures);
                if nth > 0 { format!("\n{page}") } else { page }
            })?;
        }
        Ok(code)
    }
}

/// Where a device is that somebody names: by a path, by that of its node, or as network interfaces and PCI functions are called.
fn place_of(sysfs: &Path, what: &OsStr) -> Result<Option<PathBuf>, Fatal> {
    let path = Path::new(what);
    if path.starts_with("/dev") {
        let node = path.metadata().map_err(unreadable(path))?;
        let kind = match node.file_type() {
            kind if kind.is_block_device() => "block",
            kind if kind.is_char_device() => "char",
            _ => return Err(unreadable(path)("it is no device node")),
        };
        let (major, minor) = (major(node.rdev()), minor(node.rdev()));
        return Ok(Some(sysfs.join("dev").join(kind).join(format!("{major}:{minor}"))));
    }
    if path.is_absolute() {
        return Ok(Some(if path.is_file() { path.parent().unwrap_or(path).into() } else { path.into() }));
    }
    let name = path.file_name().filter(|name| *name == what).and_then(OsStr::to_str).unwrap_or_default();
    let places = ["class/net/", "bus/pci/devices/", "bus/pci/devices/0000:"];
    let places = places.iter().map(|place| sysfs.join(format!("{place}{name}")));
    Ok(places.filter(|_| !name.is_empty()).find(|place| place.exists()))
}

/// The device there, or the nearest one that it is a part of, that has something to be looked up by; and that.
fn modalias_of(place: &Path, what: &Path) -> Result<(PathBuf, Vec<u8>), Fatal> {
    modaliases(place, true).map_err(|error| {
        let why =
            format!("it is no device's directory below /sys: {}: {error}", place.join("uevent").display());
        unreadable(what)(why)
    })?;
    let real = place.canonicalize().map_err(unreadable(what))?;
    let mut found = real.ancestors().filter_map(|device| {
        // Of several udev keeps the last.
        Some((device.to_owned(), modaliases(device, true).ok()?.pop()?))
    });
    let none = "this has no MODALIAS, nor has a device that it is a part of: no module is looked up for it";
    found.next().ok_or_else(|| unreadable(what)(none))
}

fn explain(resolver: &mut Resolver, candidate: Candidate, memory: &Memory) -> Value {
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
    let notes: Vec<_> =
        plans.iter().flat_map(|plan| notes(resolver, plan, *plan.module == *module)).collect();
    let is_it = |record: &&Value| record["module"] == *module;
    json!({
        "module": &*module,
        "name_inside": inside.as_deref(),
        "verdict": verdict,
        "live": is_live,
        "unless": unless,
        "plan": steps,
        "notes": notes,
        "add_once": memory.loads.iter().rfind(is_it),
        "failure": memory.failures.iter().find(is_it),
    })
}

/// What one might not expect of a step.
fn notes(resolver: &mut Resolver, plan: &Plan, is_asked_for: bool) -> Vec<String> {
    let (name, mut notes) = (&plan.module, Vec::new());
    let is_blacklisted = |found: &Candidate| found.module == *name && found.verdict == Verdict::Blacklisted;
    if !is_asked_for && resolver.resolve(name.as_bytes()).iter().any(is_blacklisted) {
        notes.push(format!("{name} is blacklisted, which does not hold for what another module needs"));
    }
    if let Some(command) = resolver.passed_over(name) {
        let command = command.to_string_lossy().into_owned();
        notes.push(format!(
            "the line `install {name} {command}` is passed over, for {name} has soft dependencies"
        ));
    }
    if let Work::Insert { file, .. } = &plan.work {
        if let Some(missing) = missing_dependency(&resolver.tree.directory(), file) {
            notes.push(format!(
                "{missing}, which {name} needs, is missing, and so libkmod leaves out all that it needs"
            ));
        }
    }
    notes
}

/// A file that this one needs by modules.dep, and that is not there. libkmod does not say so.
fn missing_dependency(directory: &Path, file: &Path) -> Option<String> {
    let needs = std::fs::read_to_string(directory.join("modules.dep")).ok()?;
    let own = file.strip_prefix(directory).ok()?.to_str()?;
    let needs = needs.lines().find_map(|line| line.strip_prefix(own)?.strip_prefix(':'))?;
    needs.split_whitespace().find(|file| !directory.join(file).exists()).map(str::to_owned)
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

fn page(told: &Value, directory: &Path, failures: &[Value]) -> String {
    let (mut lines, modules, alias) = (Vec::new(), list(told, "/modules"), head(text(told, "/alias"), 70));
    if let Some(device) = told["device"].as_str() {
        let driver =
            told["driver"].as_str().map_or("no driver has it".into(), |name| format!("driver {name}"));
        lines.push(format!("{device}: {driver}"));
    }
    lines.push(match modules.len() {
        0 => format!("{alias}: no module"),
        1 => format!("{alias}: 1 module"),
        n => format!("{alias}: {n} modules, tried in this order"),
    });
    for module in modules {
        let (name, verdict) = (text(module, "/module"), text(module, "/verdict"));
        let (word, why) = match (verdict, module["unless"].as_str()) {
            ("blacklisted", _) => {
                (verdict, " (modprobe.d or the kernel command line; loads by its own name only)".into())
            }
            ("builtin", _) => (verdict, " (part of the kernel image)".into()),
            ("ruled_out", Some(path)) => ("ruled out", format!(" (hwdb: {path} exists)")),
            ("ruled_out", None) => ("ruled out", " (hwdb: ADDONCE=never)".into()),
            _ if module["live"] == true => ("live", String::new()),
            _ => ("not loaded", String::new()),
        };
        lines.push(format!("{name}: {word}{why}"));
        if let Some(inside) = module["name_inside"].as_str() {
            lines.push(format!("  (the kernel will know it as {inside}: the file has another name)"));
        }
        if !module["failure"].is_null() {
            lines.extend(failed::lines(&module["failure"], failures).map(|line| format!("  {line}")));
        } else {
            lines.extend(Some(&module["add_once"]).filter(|load| !load.is_null()).map(loaded));
            let all_the_same = if verdict == "load" { "" } else { " all the same" };
            if word != "live" && verdict != "builtin" {
                lines.push(format!("  to load it{all_the_same}: addonce load {name}"));
            }
        }
        lines.extend(list(module, "/notes").iter().map(|note| format!("  {}", text(note, ""))));
        lines.extend(list(module, "/plan").iter().map(|step| line(text(step, ""), directory)));
    }
    lines.push(format!("a request of the kernel's own {}", text(told, "/kernel")));
    lines.iter().map(|line| wrapped(line, if line.starts_with("  ") { 4 } else { 2 })).collect()
}

/// Its last load.
fn loaded(load: &Value) -> String {
    let seconds = number(load, "/ended_us") as f64 / 1e6;
    let came_to = match load["error"].as_str() {
        Some(error) => format!("failed with {error} at stage {}", text(load, "/stage")),
        None if load["dry_run"] == true => "would have been loaded".into(),
        None => "loaded".into(),
    };
    let (time, who) = (time(load), asked_by(load));
    format!("  {came_to} {seconds:.3} s after the kernel's start, in {time}; requests: {who}")
}

/// A step, the module's file as below the directory of modules, with a word on one that is not there.
fn line(step: &str, directory: &Path) -> String {
    let file = step.strip_prefix("insmod ").map(|step| step.split(' ').next().unwrap_or_default());
    let missing = file.is_some_and(|file| !Path::new(file).exists());
    let step = step.replace(&format!("{}/", directory.display()), "");
    format!("  {step}{}", if missing { " (this file is missing)" } else { "" })
}
