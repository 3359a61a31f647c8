// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce explain`: which modules a name or a device stands for, what became of them and why, and what loading them takes.

use std::collections::HashSet;
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
use super::options::{SocketOption, unreadable, word};
use super::query::{list, number, published, show, text};
use super::settings::Settings;
use crate::control::kernel_name::is_asked_for;
use crate::daemon::modprobe::SYSCTL;
use crate::daemon::requests::CameTo;
use crate::daemon::status::left;
use crate::escape::{escape, head};
use crate::fatal::Fatal;
use crate::format::{duration, wrapped};
use crate::kmod::{Resolver, Tree};
use crate::once::{
    Candidate, InitState, Limits, Mode, Modules, Origin, Plan, Request, Status, Time, Verdict, Work,
};
use crate::replay::{Replayed, Simulation};
use crate::uevent::sysfs::modaliases;

/// Say of a module, a MODALIAS or a device what is loaded for it, who asked, and why not.
///
/// It also says what to type, and the steps that loading takes. Nothing is loaded, and no daemon is needed.
#[derive(Args, Debug)]
pub struct Command {
    /// A module, a modalias, a path below /sys, a device node, or a device's name: a network interface, a PCI address.
    #[arg(value_name = "WHAT", required = true, value_parser = word())]
    what: Vec<OsString>,
    /// Print JSON, an object for each.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
    #[command(flatten)]
    tree: Tree,
}

/// What is said of a device's module that nothing is known of.
const UNHEARD: &str = "nothing is recorded of it: a udev rule may clear MODALIAS, which `udevadm test` with the device's path shows";

/// What is remembered: the loads that have ended, the failures, and what goes on.
struct Memory {
    loads: Vec<Value>,
    failures: Vec<Value>,
    status: Value,
}

impl Command {
    /// Resolves and prints. The exit code is 1 where no module is known for one of them.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let socket = &self.socket.socket;
        // Where none of it is there, nothing is remembered.
        let (failures, status) = match published(socket) {
            Ok(mut published) => (list(&published, "/failures").to_vec(), published["status"].take()),
            Err(_) => (left(socket).unwrap_or_default(), Value::Null),
        };
        let memory = Memory { loads: loads(socket).unwrap_or_default(), failures, status };
        let load = if Settings::of_this_boot().off.is_some() { "modprobe" } else { "addonce load" };
        // The link stays when the daemon ends, and what the kernel runs is readable where it runs anything.
        let stands = std::fs::read_to_string(SYSCTL);
        let answers_kernel = socket.with_file_name("modprobe").is_symlink()
            && stands.map_or(true, |stands| stands.trim_end().ends_with("/addonce-modprobe"));
        let mut code = ExitCode::SUCCESS;
        for (nth, what) in self.what.iter().enumerate() {
            let resolver = Resolver::open(self.tree.clone())?;
            let told = match self.told(resolver, what, &memory) {
                Err(why @ Fatal::Usage(_)) => {
                    log::error!("{why}");
                    code = ExitCode::FAILURE;
                    continue;
                }
                told => told?,
            };
            if list(&told, "/modules").is_empty() {
                code = ExitCode::FAILURE;
            }
            show(self.json, &told, |told| {
                let page = page(told, &self.tree.directory(), &memory.failures, load, answers_kernel);
                if nth > 0 { format!("\n{page}") } else { page }
            })?;
        }
        Ok(code)
    }

    fn told(&self, mut resolver: Resolver, what: &OsStr, memory: &Memory) -> Result<Value, Fatal> {
        let (mut alias, mut device) = (what.as_bytes().to_vec(), None);
        let mut candidates = resolver.resolve(&alias);
        if candidates.is_empty() {
            if let Some(place) = place_of(&self.tree.sysfs, what)? {
                let (found, modalias) = modalias_of(&place, Path::new(what))?;
                candidates = resolver.resolve(&modalias);
                (alias, device) = (modalias, Some(found));
            }
        }
        let is_device = device.is_some();
        let explain = |candidate| explain(&mut resolver, candidate, &alias, is_device, memory);
        let modules: Vec<_> = candidates.into_iter().map(explain).collect();
        let (kernel, alias) = (kernels(resolver, &alias)?, escape(&alias));
        let mut told = json!({ "alias": alias, "device": null, "modules": modules, "kernel": kernel });
        let Some(device) = device else { return Ok(told) };
        let link = |name: &str| Some(device.join(name).read_link().ok()?.file_name()?.to_str()?.to_owned());
        let (driver, subsystem) = (link("driver"), link("subsystem").unwrap_or_default());
        let only = std::fs::read_to_string(device.join("driver_override")).unwrap_or_default();
        let only = Some(only.trim_end()).filter(|only| !only.is_empty() && *only != "(null)");
        // Of a class there is none.
        let probe = self.tree.sysfs.join("bus").join(subsystem).join("drivers_probe");
        let is_refused =
            driver.is_none() && only.is_none() && modules.iter().any(|module| module["live"] == true);
        let name = escape(device.file_name().unwrap_or_default().as_bytes());
        let offer = (is_refused && probe.exists()).then(|| format!("echo {name} > {}", probe.display()));
        told["device"] = json!(escape(device.as_os_str().as_bytes()));
        (told["driver"], told["driver_override"], told["offer"]) = (json!(driver), json!(only), json!(offer));
        Ok(told)
    }
}

/// Where a device is that somebody names: by a path, by that of its node, or by its name on a bus or in a class.
fn place_of(sysfs: &Path, what: &OsStr) -> Result<Option<PathBuf>, Fatal> {
    let path = Path::new(what);
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if let Some((module, "" | ".gz" | ".xz" | ".zst")) = name.split_once(".ko") {
        return Err(unreadable(path)(format!("give the module's name: {}", module.replace('-', "_"))));
    }
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
    if name.is_empty() || *name != *what {
        return Ok(None);
    }
    let entries = |top| std::fs::read_dir(sysfs.join(top)).into_iter().flatten().flatten();
    let classes = entries("class").map(|class| class.path().join(name));
    let buses = entries("bus").map(|bus| bus.path().join("devices").join(name));
    let function = sysfs.join(format!("bus/pci/devices/0000:{name}"));
    Ok(classes.chain(buses).chain([function]).find(|place| place.exists()))
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

fn explain(
    resolver: &mut Resolver,
    candidate: Candidate,
    alias: &[u8],
    is_device: bool,
    memory: &Memory,
) -> Value {
    let Candidate { module, verdict, policy, options } = candidate;
    let plans = resolver.plans(&module, options.as_deref(), &mut Default::default());
    let inside = resolver.name_inside(&module);
    let in_kernel = inside.as_deref().unwrap_or(&module);
    let is_live = verdict != Verdict::Builtin && resolver.initstate(in_kernel) == InitState::Live;
    let is_named = plans.iter().any(|plan| plan.module == module && plan.policy == policy);
    let query = if is_named { format!("module:{module}") } else { format!("modalias:{}", escape(alias)) };
    let mut rule = None;
    let verdict = match verdict {
        Verdict::Builtin => "builtin",
        Verdict::Blacklisted => {
            let place = blacklisted_by(&resolver.tree.config_places(), &module);
            // modprobe.d(5) knows `alias WHAT off`, too.
            let other = if *module == *"off" {
                "an alias in modprobe.d"
            } else {
                "modprobe.blacklist= on the kernel command line"
            };
            rule = Some(place.unwrap_or(other.into()));
            "blacklisted"
        }
        Verdict::Load if policy.rules_out(|path| resolver.exists(path)) => {
            let says = policy.unless.as_ref().filter(|_| policy.mode != Mode::Never);
            let says = says.map_or("ADDONCE=never".into(), |path| format!("{} exists", path.display()));
            rule = Some(format!("hwdb: {says}; see systemd-hwdb query 'addonce:{query}'"));
            "ruled_out"
        }
        Verdict::Load => "load",
    };
    let steps: Vec<_> = plans.iter().filter_map(step).collect();
    let mut notes: Vec<_> =
        plans.iter().flat_map(|plan| notes(resolver, plan, *plan.module == *module)).collect();
    let is_it = |record: &&Value| record["module"] == *module;
    let (load, failure) = (memory.loads.iter().rfind(is_it), memory.failures.iter().find(is_it));
    let running = list(&memory.status, "/running").iter().find(is_it);
    let waiting = list(&memory.status, "/waiting").iter().find(is_it);
    let is_unheard_of = is_device && load.or(failure).or(running).or(waiting).is_none();
    notes.extend((is_unheard_of && !is_live && verdict == "load").then(|| UNHEARD.into()));
    json!({
        "module": &*module,
        "name_inside": inside.as_deref(),
        "verdict": verdict,
        "live": is_live,
        "rule": rule,
        "plan": steps,
        "notes": notes,
        "running": running,
        "waiting": waiting,
        "add_once": load,
        "failure": failure,
    })
}

/// The first line of modprobe.d that blacklists a module. There is none where the kernel command line does.
fn blacklisted_by(places: &[PathBuf], module: &str) -> Option<String> {
    let is_it = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("blacklist") && words.next().is_some_and(|name| name.replace('-', "_") == module)
    };
    let files = places.iter().flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten());
    let files = files.map(|file| file.path()).filter(|file| file.extension() == Some("conf".as_ref()));
    // Of several with a name libkmod reads the first.
    let mut seen = HashSet::new();
    let mut files = files.filter(|file| seen.insert(file.file_name().map(OsStr::to_owned)));
    files.find_map(|file| {
        let nth = std::fs::read_to_string(&file).ok()?.lines().position(is_it)?;
        Some(format!("{}:{}", file.display(), nth + 1))
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
    if !is_asked_for(alias) {
        return Ok("would be left to modprobe: addonce-modprobe does not ask for this name".into());
    }
    let mut simulation =
        Simulation::new(Replayed::new(resolver, "").map_err(Fatal::System)?, Limits::default());
    simulation.ask(Request { alias, origin: Origin::Kernel, client: Some(0) });
    simulation.pass(Time::ZERO);
    let Some((_, answers)) = simulation.answers.pop() else {
        return Ok("would be left to modprobe: an install command takes part, or there is no file".into());
    };
    let live = answers.iter().filter(|(_, status)| *status == Status::Live).map(|(name, _)| &**name);
    Ok(match (CameTo::of(&answers), live.collect::<Vec<_>>().join(" ")) {
        (CameTo::NoModule, _) => "would fail: there is no module".into(),
        (CameTo::Refused, _) => "would be refused: hwdb rules it out".into(),
        (CameTo::Failed, _) => "would fail".into(),
        (CameTo::Done, loaded) if loaded.is_empty() => "would succeed, and load nothing".into(),
        (CameTo::Done, loaded) => format!("would load: {loaded}"),
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

fn page(told: &Value, directory: &Path, failures: &[Value], load: &str, answers_kernel: bool) -> String {
    let (mut lines, modules, alias) = (Vec::new(), list(told, "/modules"), head(text(told, "/alias"), 70));
    let device = told["device"].as_str();
    if let Some(device) = device {
        let driver =
            told["driver"].as_str().map_or("no driver has it".into(), |name| format!("driver {name}"));
        lines.push(format!("{device}: {driver}"));
        if let Some(name) = told["driver_override"].as_str() {
            lines.push(format!("  driver_override is \"{name}\": only a driver of that name takes it"));
        }
        lines.extend(told["offer"].as_str().map(|offer| {
            format!("  what is live has not taken this device: see dmesg; to offer it again: {offer}")
        }));
    }
    lines.push(match modules.len() {
        0 if device.is_none() => format!("{alias}: no module, and no device of this name"),
        0 => format!("{alias}: no module"),
        1 => format!("{alias}: 1 module"),
        n => format!("{alias}: {n} modules, tried in this order"),
    });
    for module in modules {
        let (name, verdict) = (text(module, "/module"), text(module, "/verdict"));
        let (is_live, is_out) = (module["live"] == true, verdict != "load");
        let rule = format!("{} ({})", verdict.replace('_', " "), text(module, "/rule"));
        let since = |key: &str| Some(duration(module[key]["ms"].as_u64()?));
        let state = match (verdict, is_live) {
            ("builtin", _) => "builtin (part of the kernel image)".into(),
            ("load", true) => "live".into(),
            (_, true) => format!(
                "live, although {rule}: loaded by name, before that rule was made, or in the initramfs, which is \
                 made anew by update-initramfs -u and the like"
            ),
            ("load", false) => match (since("running"), since("waiting")) {
                (Some(time), _) => format!("being loaded, for {time}"),
                (_, Some(time)) => format!("waiting to be loaded, for {time}"),
                _ => "not loaded".into(),
            },
            _ => rule,
        };
        lines.push(format!("{name}: {state}"));
        if let Some(inside) = module["name_inside"].as_str() {
            lines.push(format!("  (the kernel will know it as {inside}: the file has another name)"));
        }
        // A blacklist or policy does not hold for what another module needs.
        let failure = &module["failure"];
        if !is_live && failure.is_object() && (!is_out || failure["pulled_in"] == true) {
            lines.extend(failed::lines(failure, failures).map(|line| format!("  {line}")));
        } else {
            let last = Some(&module["add_once"]).filter(|load| load.is_object());
            lines.extend(last.and_then(|load| loaded(load, is_live)));
            if !is_live && verdict != "builtin" {
                let all_the_same = if is_out { " all the same" } else { "" };
                lines.push(format!("  to load it{all_the_same}: {load} {name}"));
            }
        }
        if verdict == "blacklisted" && !is_live {
            lines.push(match text(module, "/rule").ends_with("command line") {
                true => "  to end that: remove it from the boot loader's configuration, and boot".into(),
                false => "  to end that: remove the line, then `udevadm trigger --action=add`".into(),
            });
        }
        lines.extend(list(module, "/notes").iter().map(|note| format!("  {}", text(note, ""))));
        if !is_live && verdict != "builtin" && module["plan"] != json!([]) {
            lines.push("  would load, in this order:".into());
            lines.extend(list(module, "/plan").iter().map(|step| line(text(step, ""), directory)));
        }
    }
    let is_named = modules.iter().any(|module| module["module"] == *alias.replace('-', "_"));
    if answers_kernel || (device.is_none() && !is_named) {
        lines.push(format!("request_module(\"{alias}\") {}", text(told, "/kernel")));
    }
    lines.iter().map(|line| wrapped(line, if line.starts_with("  ") { 4 } else { 2 })).collect()
}

/// Its last load, if that is not what has been overtaken since: it failed, and the module is live all the same.
fn loaded(load: &Value, is_live: bool) -> Option<String> {
    let (seconds, time, who) = (number(load, "/ended_us") as f64 / 1e6, time(load), asked_by(load));
    let (came_to, since) = match load["error"].as_str() {
        Some(_) if is_live => return None,
        Some(error) => (format!("failed with {error} at stage {}", text(load, "/stage")), ""),
        None if load["dry_run"] == true => ("would have been loaded".into(), ""),
        None if is_live => ("loaded".into(), ""),
        None => ("was loaded".into(), ", and unloaded since"),
    };
    Some(format!("  {came_to} {seconds:.3} s after the kernel's start, in {time}, for {who}{since}"))
}

/// A step, a module's file as below the directory of modules, with a word on one that is not there.
fn line(step: &str, directory: &Path) -> String {
    let Some(file) = step.strip_prefix("insmod ") else { return format!("    {step}") };
    let is_missing = !Path::new(file.split(' ').next().unwrap_or_default()).exists();
    let file = file.replace(&format!("{}/", directory.display()), "");
    format!("    {file}{}", if is_missing { " (this file is missing)" } else { "" })
}
