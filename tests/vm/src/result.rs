// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of a run, as it is kept: one JSON object.
//!
//! Owns the names of the JSON fields, which others read, and what comparing two results means. It promises
//! that a result exists only if the trace is complete: lost events are an error here, for a count with a hole
//! is no count.

use crate::boot::Boot;
use crate::order;
use crate::raw::Raw;
use crate::resources::{self, Daemon, Sample};
use crate::trace::{Call, by_addonce, errno_name};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How often, by name of the errno; "0" is success.
pub type ByErrno = BTreeMap<String, u32>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    pub total: u32,
    pub by_errno: ByErrno,
    /// By the name of the calling thread: a module the kernel itself asked for comes through modprobe.
    pub by_caller: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LabResult {
    pub scenario: String,
    pub cpus: u32,
    /// Of `lab bench`, in which each way has its turn: ratios are to the run of the same round. 0: none.
    #[serde(default)]
    pub round: u32,
    pub kernel: String,
    pub qemu: String,
    pub udev: String,
    pub kmod: String,
    /// From the start of the first program that loads modules to settled; of a boot, from the kernel's start.
    pub seconds: f64,
    /// Seconds since then, with what the scenario had reached.
    pub marks: Vec<(String, f64)>,
    /// Busy time of all CPUs together, in hundredths of a second.
    pub cpu_jiffies: i64,
    /// How far MemAvailable fell at its lowest.
    pub mem_drop_kb: i64,
    /// MemAvailable, five times a second.
    #[serde(default)]
    pub memory: Vec<Sample>,
    /// What the daemon itself cost, where there was one until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
    pub calls: Calls,
    /// Insert calls by module.
    pub attempts: BTreeMap<String, ByErrno>,
    /// The modules that were tried, in an order in which each came in or failed after all that it needs.
    #[serde(default)]
    pub order: Vec<String>,
    /// Modules whose initstate read `live` in the end, sorted.
    pub live: Vec<String>,
    /// Modules that nothing asks for in this scenario, though stock udev loads them by a rule of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_asked_for: Vec<String>,
    /// How often the scenario allows a module to be tried, where it is more than once: it asked again, or killed somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_tries: Option<u32>,
    /// Modules that were to fail first and then, with another cause, to come in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twice: Vec<String>,
    /// The guest booted a whole Debian: what is counted here is what was loaded from its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// How often each program of addonce's was started in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, u32>,
    /// How many devices had a MODALIAS in the end, each of which was triggered once.
    #[serde(default)]
    pub modaliases: i64,
    /// So many starts of addonce-load are allowed for a hundred of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_programs: Option<u32>,
    /// What `addonce failed` said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<String>>,
    /// The storm as addonce saw it: what `addonce plot` draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<serde_json::Value>,
    /// What the scenario logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Vec<String>>,
}

/// Fails if the trace has a hole, or the count began too late.
pub fn must_be_complete(raw: &Raw) -> Result<(), String> {
    let lost = (raw.fact("lost")?, raw.fact("missed")?);
    if lost != ("", "0") {
        let (lost, missed) = lost;
        return Err(format!(
            "the trace lost events ({lost} kprobe misses: {missed}); raise buffer_size_kb in guest/measure.sh"
        ));
    }
    if !raw.section("live-before")?.trim().is_empty() {
        return Err(format!("modules were live before the storm: {:?}", raw.lines("live-before")));
    }
    Ok(())
}

impl LabResult {
    pub fn new(raw: &Raw, calls: Vec<Call>, scenario: &str, cpus: u32, qemu: String) -> Result<Self, String> {
        must_be_complete(raw)?;
        let mut live = raw.lines("live").unwrap_or_default();
        live.sort();
        let mut result = Self {
            scenario: scenario.into(),
            cpus,
            kernel: raw.fact("kernel")?.into(),
            qemu,
            udev: raw.fact("udev")?.into(),
            kmod: raw.fact("kmod")?.into(),
            seconds: raw.number("centiseconds")? as f64 / 100.0,
            marks: raw.marks.clone(),
            cpu_jiffies: raw.number("cpu_jiffies")?,
            mem_drop_kb: raw.number("mem_drop_kb")?,
            memory: resources::samples(raw)?,
            daemon: Daemon::read(raw)?,
            order: order::of(&calls),
            live,
            most_tries: raw
                .fact("most_tries")
                .ok()
                .map(str::parse)
                .transpose()
                .map_err(|e| format!("most_tries: {e}"))?,
            modaliases: raw.fact("modaliases").ok().map_or(Ok(0), |_| raw.number("modaliases"))?,
            failed: raw.lines("failed"),
            storm: raw
                .section("storm")
                .ok()
                .map(serde_json::from_str)
                .transpose()
                .map_err(|e| format!("what the guest says of its storm is no JSON: {e}"))?,
            log: raw.lines("log"),
            ..Self::default()
        };
        calls.into_iter().for_each(|call| result.count(call));
        Ok(result)
    }

    fn count(&mut self, call: Call) {
        let errno = errno_name(call.errno);
        self.calls.total += 1;
        // For this count all of addonce's loads are one caller.
        let caller = if by_addonce(&call) { "addonce".into() } else { call.caller };
        *self.calls.by_caller.entry(caller).or_default() += 1;
        *self.calls.by_errno.entry(errno.clone()).or_default() += 1;
        *self.attempts.entry(call.module).or_default().entry(errno).or_default() += 1;
    }

    /// Modules that the kernel was asked to insert more than once, with how often.
    pub fn repeated(&self) -> BTreeMap<&str, u32> {
        let sums = self.attempts.iter().map(|(module, errnos)| (module.as_str(), errnos.values().sum()));
        sums.filter(|(_, sum)| *sum > 1).collect()
    }

    /// Modules that are live in `reference` and not here.
    pub fn missing_from<'a>(&self, reference: &'a Self) -> Vec<&'a str> {
        reference.live.iter().filter(|module| !self.live.contains(module)).map(String::as_str).collect()
    }

    /// What keeps this run from being as good as one insert call per module with all of `reference` live.
    pub fn faults_against(&self, reference: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        let named = |run: &Self| format!("{} at {} CPUs", run.scenario, run.cpus);
        if self.cpus != reference.cpus || self.kernel != reference.kernel {
            faults.push(format!("{} and {} are not the same machine", named(self), named(reference)));
        }
        let mut missing = self.missing_from(reference);
        missing.retain(|module| !self.not_asked_for.iter().any(|other| other == module));
        if !missing.is_empty() {
            let (run, reference) = (named(self), &reference.scenario);
            faults.push(format!("{run}: not live, but live with {reference}: {}", missing.join(", ")));
        }
        let boot = self.boot.iter().flat_map(Boot::faults);
        faults.extend(boot.map(|fault| format!("{}: {fault}", named(self))));
        let unheeded = self.boot.iter().zip(&reference.boot).flat_map(|(boot, stock)| boot.unheeded(stock));
        faults.extend(unheeded.map(|fault| format!("{}: {fault}", named(self))));
        if self.boot.as_ref().is_some_and(|boot| boot.as_stock) {
            faults.extend(self.unlike(reference).map(|fault| format!("{}: {fault}", named(self))));
            return faults;
        }
        faults.extend(self.too_many_programs().map(|fault| format!("{}: {fault}", named(self))));
        let twice = self.twice.iter().filter(|module| !self.failed_once_and_came_in(module));
        faults.extend(twice.map(|module| {
            format!("{}: {module} was not tried twice, the second time with success", named(self))
        }));
        let most = self.most_tries.unwrap_or(1);
        let repeated = self.repeated().into_iter();
        let repeated = repeated
            .filter(|(module, tries)| *tries > most && !self.twice.iter().any(|twice| twice == module));
        let repeated: Vec<_> = repeated.map(|(module, n)| format!("{module} ({n})")).collect();
        if !repeated.is_empty() {
            let allowed = if most == 1 { "once".into() } else { format!("{most} times") };
            faults.push(format!("{}: inserted more than {allowed}: {}", named(self), repeated.join(", ")));
        }
        faults.extend(
            self.untold().map(|module| format!("{}: `addonce failed` is silent about {module}", named(self))),
        );
        faults
    }

    /// In a storm that deserves the name.
    fn too_many_programs(&self) -> Option<String> {
        let most = self.most_programs.filter(|_| self.cpus >= 64)?;
        let (programs, devices) = (self.asked(), self.modaliases);
        (i64::from(programs) * 100 > i64::from(most) * devices).then(|| {
            format!("addonce-load was started {programs} times for {devices} devices: more than {most} %")
        })
    }

    /// How often udev ran the program that asks.
    pub fn asked(&self) -> u32 {
        self.programs.get("addonce-load").copied().unwrap_or_default()
    }

    fn failed_once_and_came_in(&self, module: &str) -> bool {
        let attempts = self.attempts.get(module);
        attempts.is_some_and(|errnos| {
            errnos.len() == 2 && errnos.values().all(|n| *n == 1) && errnos.contains_key("0")
        })
    }

    /// What tells this run from one of stock's: other modules, or another one who loads them. How often each is tried
    /// is a matter of luck there.
    fn unlike(&self, reference: &Self) -> impl Iterator<Item = String> {
        let more = reference.missing_from(self);
        let live = (!more.is_empty())
            .then(|| format!("live, but not live with {}: {}", reference.scenario, more.join(", ")));
        let tried = |run: &Self| run.attempts.keys().cloned().collect::<BTreeSet<_>>();
        let others: Vec<_> = tried(self).symmetric_difference(&tried(reference)).cloned().collect();
        let tried =
            (!others.is_empty()).then(|| format!("tried in one of the two only: {}", others.join(", ")));
        let caller = self.calls.by_caller.contains_key("addonce").then(|| "addonce loaded modules".into());
        [live, tried, caller].into_iter().flatten()
    }

    /// Modules that were tried in vain, and that the table of failures has no line for: one that begins with the module and names
    /// its errno, which is on the next line where the module's name is long.
    fn untold(&self) -> impl Iterator<Item = &str> {
        let told = |module: &str, errnos: &ByErrno| match &self.failed {
            None => true,
            Some(lines) => {
                let has = |line: &str| errnos.keys().any(|errno| line.contains(errno));
                lines.iter().zip(lines.iter().skip(1)).any(|(line, next)| match line.strip_prefix(module) {
                    Some("") => has(next),
                    Some(rest) => rest.starts_with(' ') && has(rest),
                    None => false,
                })
            }
        };
        let failed = self.attempts.iter().filter(|(module, _)| !self.live.contains(module));
        failed.filter(move |(module, errnos)| !told(module, errnos)).map(|(module, _)| module.as_str())
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
