// SPDX-License-Identifier: MIT OR Apache-2.0
//! The naive bookkeeping of rich worlds: who asked for what, what was attempted, what failed. From it follows for
//! each attempt whether some rule allowed it, and for each request that the rules accept what it is owed.
//!
//! Where modules pull each other in, it errs on the side of the core: an attempt counts as allowed if any request
//! that is not over yet could have reached the module. Modules without relations are predicted by `rules`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fake::FakeModules;
use addonce::once::Mode;
use addonce::once::{AddOnce, LoadError, Outcome, Stage};
use addonce::once::{Cause, Name, Plan};

use super::world::{World, name, number};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Administrator,
    Kernel,
    /// Its number, and whether it is genuine.
    Device(u8, bool),
    Scan(u8),
}

impl Who {
    pub fn devpath(&self) -> String {
        match self {
            Who::Administrator | Who::Kernel => String::new(),
            Who::Device(device, _) | Who::Scan(device) => format!("/devices/{device}"),
        }
    }
}

/// Why a remembered failure may be attempted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Rule 2, or policy `always`: at once.
    AtOnce,
    /// Rules 4 and 5: when the backoff ends.
    Later,
    /// Rule 6: at once, but for the window.
    Kernel,
    /// Rule 7: never; but a change of cause or an unload may let it.
    Asked,
}

/// What is known of one module.
#[derive(Default)]
struct Seen {
    /// Other modules have it attempted.
    pulled_in: bool,
    /// The outcome that is remembered: when, the errno, and the root dependency if that is what failed.
    failed: Option<(Duration, i32, Option<usize>)>,
    /// Every errno it ever failed with.
    errnos: BTreeSet<i32>,
    /// The cause of the last attempt, and the failures in a row that it had.
    cause: Option<Cause>,
    in_a_row: u32,
    /// The running load's tries: when each ended, and whether its answer was a transient one.
    tries: Vec<Option<(Duration, bool)>>,
    unloaded: bool,
    reasons: Vec<Reason>,
    /// Devices that asked since the last outcome, between it and the one before it, and ever.
    asked: [BTreeSet<u8>; 3],
    /// Devices that were certainly counted against the remembered failure, or will be when the load ends.
    counted: BTreeSet<u8>,
    loading: BTreeSet<u8>,
    /// When an attempt was accepted.
    accepted: Option<Duration>,
    /// No device is behind the attempt that was made last: who asked before it still asks again after it. So it is where the
    /// attempt goes on with one that a shortage ended: that is due by itself, for those for whom the first one was made, and
    /// whoever asks meanwhile joins them instead of taking their place.
    kept: bool,
    /// A scan has asked since the last attempt, before anybody was accepted. The next one may be begun by it, and is kept as such,
    /// though a device joins it while it waits for others.
    scanned: bool,
    /// The kernel has asked since nothing was being loaded, and since the outcome that is remembered. That attempt may have been for it
    /// alone, which to others is none: then all that is known of them is that they may attempt it.
    kernel_waits: bool,
    kernel_asked: bool,
    perhaps_for_kernel: bool,
    /// What it may have left as it was: an attempt that others are to get.
    perhaps_pending: bool,
    /// The last outcome was a shortage.
    short: bool,
}

pub struct Ledger {
    modules: Vec<Seen>,
    /// What each alias stands for or ever stood for.
    aliases: Vec<Vec<usize>>,
    /// The request that is being heard: its device, and the modules it names.
    hearing: Option<(u8, Vec<usize>)>,
    remembered: BTreeSet<usize>,
}

impl Ledger {
    pub fn new(world: &World) -> Self {
        Self {
            modules: (0..world.modules.len())
                .map(|module| Seen { pulled_in: world.is_pulled_in(module), ..Seen::default() })
                .collect(),
            aliases: world.aliases.clone(),
            hearing: None,
            remembered: BTreeSet::new(),
        }
    }

    /// A request. `certain` are the modules that it certainly wants loaded.
    pub fn asked(&mut self, world: &World, now: Duration, alias: &str, who: Who, certain: &[usize]) {
        let named = match alias.strip_prefix("x:") {
            Some(alias) => self.aliases[alias.parse::<usize>().expect("a number")].clone(),
            None => vec![number(alias)],
        };
        let reached = world.reach(&named);
        // What is accepted for one of them, or joins what was accepted for it, is, at the end of its backoff,
        // attempted with all that it needs. Who meets a shortage, which is attempted whether anybody asks or not, joins nothing.
        let waits = |module: &usize| self.modules[*module].reasons.contains(&Reason::Later);
        let again = |device| reached.iter().any(|&module| self.modules[module].asked_before(device));
        let again = reached.iter().any(waits) || matches!(who, Who::Device(device, _) if again(device));
        for module in reached {
            let always = world.modules[module].mode == Mode::Always && named.contains(&module);
            let seen = &mut self.modules[module];
            let reason = match who {
                _ if always => Reason::AtOnce,
                Who::Administrator => Reason::AtOnce,
                Who::Kernel => Reason::Kernel,
                Who::Device(_, true) => Reason::Later,
                Who::Device(_, false) | Who::Scan(_) if again => Reason::Later,
                Who::Device(..) | Who::Scan(_) => Reason::Asked,
            };
            seen.reasons.push(reason);
            match who {
                Who::Device(device, _) => {
                    seen.asked[0].insert(device);
                    seen.asked[2].insert(device);
                }
                Who::Scan(_) => seen.scanned |= seen.accepted.is_none(),
                Who::Kernel => (seen.kernel_waits, seen.kernel_asked) = (true, true),
                Who::Administrator => {}
            }
        }
        // A dependent's failure has no rules of its own: what counts is who asked for what failed it.
        let roots: Vec<usize> = certain.iter().map(|&module| self.root(module)).collect();
        for (&module, &root) in certain.iter().zip(&roots) {
            let again = |device| self.modules[root].counted.contains(&device);
            let accepted = match who {
                Who::Administrator | Who::Device(_, true) => true,
                Who::Device(device, false) => again(device),
                Who::Scan(_) | Who::Kernel => false,
            };
            if accepted {
                self.modules[module].accepted.get_or_insert(now);
            }
        }
        // Who asks for a module asks for all that it needs, whichever part of that fails it.
        let needed = certain.iter().flat_map(|&module| &world.modules[module].deps);
        for &asked in roots.iter().chain(needed) {
            if let Who::Device(device, _) = who {
                let asked = &mut self.modules[asked];
                if !asked.tries.is_empty() {
                    asked.loading.insert(device);
                } else if asked.failed.is_some_and(|(_, _, root)| root.is_none()) {
                    asked.counted.insert(device);
                }
            }
        }
        if let Who::Device(device, _) = who {
            self.hearing = Some((device, certain.to_vec()));
        }
    }

    /// What failed a module: itself, or something it needs.
    fn root(&self, module: usize) -> usize {
        self.modules[module].failed.and_then(|(_, _, root)| root).unwrap_or(module)
    }

    /// All that the request caused at once has been seen.
    pub fn heard(&mut self) {
        self.hearing = None;
    }

    /// An administrator wants all failures attempted.
    pub fn retry(&mut self, now: Duration, live: &BTreeSet<Name>) {
        for (module, seen) in self.modules.iter_mut().enumerate() {
            seen.reasons.push(Reason::AtOnce);
            if self.remembered.contains(&module) && !live.contains(&name(module)) {
                seen.accepted.get_or_insert(now);
            }
        }
    }

    /// A module was unloaded, or may have been.
    pub fn unloaded(&mut self) {
        self.modules.iter_mut().for_each(|seen| seen.unloaded = true);
    }

    pub fn alias_gained(&mut self, alias: usize, module: usize) {
        if !self.aliases[alias].contains(&module) {
            self.aliases[alias].push(module);
        }
    }

    /// A module is live.
    pub fn live(&mut self, module: usize) {
        let seen = &mut self.modules[module];
        seen.failed = None;
        seen.accepted = None;
        seen.in_a_row = 0;
        for seen in &mut self.modules {
            seen.failed = seen.failed.filter(|(_, _, root)| *root != Some(module));
        }
    }

    /// A load ended.
    pub fn ended(&mut self, now: Duration, name: &Name, outcome: &Outcome) {
        let transient = matches!(outcome, Outcome::Failed(error) if error.stage == Stage::Insert
            && is_transient(error.errno));
        if let Some(last) = self.modules[number(name)].tries.last_mut() {
            *last = Some((now, transient));
        }
    }

    /// A load starts. Says which rule would have been needed, where none allows it.
    pub fn attempted(&mut self, now: Duration, plan: &Plan) -> Result<(), String> {
        let module = number(&plan.module);
        let hearing = self.hearing.take_if(|(_, certain)| certain.contains(&module));
        let seen = &mut self.modules[module];
        let nobodys = hearing.is_none() && seen.accepted.is_none();
        let goes_on = seen.failed.is_some_and(|(_, errno, _)| errno == libc::EAGAIN);
        let scanned = std::mem::take(&mut seen.scanned);
        // A new device's attempt is kept, too; in doubt, any that may be one.
        let is_new = seen.reasons.contains(&Reason::Later);
        let asks = is_new || seen.kernel_asked || seen.reasons.contains(&Reason::AtOnce);
        seen.kept = nobodys || goes_on || scanned || asks;
        seen.accepted = None;
        if let Some((device, certain)) = hearing {
            seen.loading.insert(device);
            self.hearing = Some((device, certain));
        }
        if seen.cause != Some(plan.cause) {
            // Rule 1 holds for what is being loaded, too.
            seen.tries.clear();
        }
        let allowed = match seen.tries.last() {
            Some(_) => seen.may_try_again(now),
            None => seen.may_attempt(now, plan),
        };
        if seen.tries.is_empty() && seen.cause != Some(plan.cause) {
            seen.cause = Some(plan.cause);
            seen.in_a_row = 0;
        }
        seen.tries.push(None);
        seen.unloaded = false;
        allowed
    }

    /// A load ended. What is tried again must have been tried three times; what is not, and what is the kernel's alone, only once.
    pub fn check_tries(&self, record: &AddOnce) -> Result<(), String> {
        let tries = self.modules[number(&record.module)].tries.len();
        let Outcome::Failed(error) = &record.outcome else { return Ok(()) };
        let right = match error.stage {
            Stage::Insert if is_transient(error.errno) && record.asked > record.by_kernel => tries == 3,
            Stage::Insert => (1..=3).contains(&tries),
            // What was tried may need, by the time it failed, something else.
            Stage::Dependency(_) => true,
            _ => tries == 0,
        };
        if right { Ok(()) } else { Err(format!("{tries} tries, then {error:?}")) }
    }

    /// Whether a failure names what failed.
    pub fn check_blame(
        &self,
        name: &Name,
        error: &LoadError,
        fake: &FakeModules,
        unseen: &BTreeSet<Name>,
    ) -> Result<(), String> {
        let Stage::Dependency(root) = &error.stage else { return Ok(()) };
        if !fake.modules[name].deps.contains(root) {
            return Err(format!("blames {root}, which it does not need"));
        }
        if fake.live.contains(root) && !unseen.contains(root) {
            return Err(format!("blames {root}, which is live"));
        }
        if !self.modules[number(root)].errnos.contains(&error.errno) {
            return Err(format!("blames {root} for errno {}, which that never answered", error.errno));
        }
        Ok(())
    }

    /// A load ended.
    pub fn published(&mut self, now: Duration, record: &AddOnce) {
        let module = number(&record.module);
        let seen = &mut self.modules[module];
        seen.accepted = None;
        seen.tries.clear();
        let pending = seen.reasons.iter().any(|reason| matches!(reason, Reason::Later | Reason::AtOnce));
        if !seen.pulled_in {
            seen.reasons.clear();
        }
        let asked = std::mem::take(&mut seen.asked[0]);
        match seen.kept {
            true => seen.asked[1].extend(asked),
            false => seen.asked[1] = asked,
        }
        seen.counted = std::mem::take(&mut seen.loading);
        let before = seen.in_a_row;
        seen.perhaps_pending |= seen.short || pending;
        seen.short = matches!(&record.outcome, Outcome::Failed(error) if error.errno == libc::EAGAIN);
        seen.perhaps_for_kernel = match seen.pulled_in {
            true => seen.perhaps_for_kernel | seen.kernel_asked,
            false => std::mem::take(&mut seen.kernel_asked),
        };
        seen.perhaps_pending &= seen.perhaps_for_kernel;
        match &record.outcome {
            Outcome::Live => self.live(module),
            Outcome::Failed(error) => {
                let root = match &error.stage {
                    Stage::Dependency(root) => Some(number(root)),
                    _ => None,
                };
                if root.is_none() {
                    seen.errnos.insert(error.errno);
                }
                seen.in_a_row = match root {
                    Some(_) => 0,
                    None if seen.perhaps_for_kernel => before,
                    None => before + 1,
                };
                seen.failed = Some((now, error.errno, root));
                // Each new failure may evict any other one.
                self.remembered.retain(|&other| other == module);
            }
        }
    }

    /// What the core remembers as failed.
    pub fn remembers<'a>(&mut self, failures: impl Iterator<Item = &'a Name>) {
        self.remembered = failures.map(|name| number(name)).collect();
    }

    /// Whether the kernel may wait for a load.
    pub fn kernel_waits_for(&self, module: &Name) -> bool {
        self.modules[number(module)].kernel_waits
    }

    /// Nothing is being loaded.
    pub fn settled(&mut self) {
        self.modules.iter_mut().for_each(|seen| seen.kernel_waits = false);
    }

    /// Nothing is being loaded and nothing accepted: no request of the past has anything more to ask for.
    pub fn calm(&mut self) {
        self.modules.iter_mut().for_each(|seen| seen.reasons.clear());
    }

    /// A blacklist or policy rules a module out: what was accepted for it may be forgotten, and its failure was, if that is not
    /// remembered any more.
    pub fn ruled_out(&mut self, module: usize, is_remembered: bool) {
        let seen = &mut self.modules[module];
        seen.accepted = None;
        // It may have been, and have failed anew for another module that needs it.
        seen.in_a_row = seen.in_a_row.min(1);
        if self.remembered.contains(&module) && !is_remembered {
            (seen.failed, seen.in_a_row) = (None, 0);
        }
    }

    /// The next process was not told of a module.
    pub fn not_passed_on(&mut self, module: usize) {
        self.modules[module].accepted = None;
    }

    /// An accepted attempt that was never made.
    pub fn owed(&self) -> Option<String> {
        let owed = |(module, seen): (usize, &Seen)| {
            let accepted = seen.accepted?.as_millis();
            Some(format!("{} was owed an attempt at {accepted} ms, and never had it", name(module)))
        };
        self.modules.iter().enumerate().find_map(owed)
    }
}

impl Seen {
    /// Whether a device may be one that asks again. What others pull in may be asked for through all of them.
    fn asked_before(&self, device: u8) -> bool {
        let [now, before, ever] = &self.asked;
        now.contains(&device) || before.contains(&device) || (self.pulled_in && ever.contains(&device))
    }

    fn may_try_again(&self, now: Duration) -> Result<(), String> {
        let tries = self.tries.len();
        let Some(Some((ended, transient))) = self.tries.last() else {
            return Err("the last try has not ended".into());
        };
        let pause = Duration::from_millis(50 << (tries - 1).min(8));
        if !transient || tries >= 3 || now < *ended + pause {
            return Err(format!("no further try after {tries}"));
        }
        Ok(())
    }

    fn may_attempt(&self, now: Duration, plan: &Plan) -> Result<(), String> {
        let Some((failed, errno, root)) = self.failed else { return Ok(()) };
        let conflict = matches!(errno, libc::EEXIST | libc::EBUSY | libc::ENODEV);
        let changed = self.cause != Some(plan.cause);
        if root.is_some() || changed || (conflict && self.unloaded) || self.reasons.contains(&Reason::AtOnce)
        {
            return Ok(());
        }
        let has_no_window = matches!(errno, libc::EAGAIN | libc::EBUSY);
        let is_over = has_no_window || now >= failed + Duration::from_secs(1);
        let others = self.reasons.iter().any(|reason| *reason != Reason::Kernel);
        let as_it_was = self.perhaps_for_kernel && (others || self.perhaps_pending);
        if (self.reasons.contains(&Reason::Kernel) && is_over) || as_it_was {
            return Ok(());
        }
        let in_a_row = self.in_a_row.max(1);
        let policy = plan.policy.backoff;
        let backoff = (policy.min * (1 << (in_a_row - 1).min(16))).min(policy.max);
        if !self.reasons.contains(&Reason::Later) && errno != libc::EAGAIN {
            return Err(format!(
                "nothing new since it failed at {} ms: {:?}",
                failed.as_millis(),
                self.reasons
            ));
        }
        if now < failed + backoff {
            return Err(format!("failed at {} ms; its backoff has not ended", failed.as_millis()));
        }
        Ok(())
    }
}

fn is_transient(errno: i32) -> bool {
    matches!(errno, libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::ENOMEM)
}
