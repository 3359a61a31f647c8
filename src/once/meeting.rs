// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Meeting: a request and the modules it stands for
//!
//! Owns the way of a request along the modules of its resolution: which of them are wanted at all (not what is builtin,
//! blacklisted or ruled out by policy), in which order they are tried, and that it is taken down who asked for what was
//! not live. What becomes of a module that is wanted is decided in `takeoff.rs`.

use super::coalescer::Coalescer;
use super::memo::{Resolved, Wanted};
use super::party::Standing;
use super::policy::Mode;
use super::request::{Asker, Kind, Time};
use super::table::{ModuleId, State};
use super::takeoff::Ask;
use super::world::{Modules, Name, Verdict};

impl Coalescer {
    /// Takes down that the asker asks for a module, and tells when its device did so before.
    pub(super) fn sight(&mut self, asker: Asker, module: ModuleId, now: Time) -> Asker {
        let (failures, flights) = (&self.failures, &self.flights);
        self.sightings.see(asker, module, now, || {
            let in_air = flights.iter().map(|flight| flight.asked.since).min();
            [failures.counted_from(), in_air].into_iter().flatten().min().unwrap_or(u64::MAX)
        })
    }

    /// The modules of a request's resolution, one by one.
    pub(super) fn meet_all(
        &mut self,
        modules: &mut dyn Modules,
        resolved: &Resolved,
        mut ask: Ask<'_>,
        now: Time,
    ) {
        for wanted in &resolved.wanted {
            let standing = self.meet(modules, wanted, &ask, now);
            if standing == Standing::InAir {
                ask.after = Some(wanted.module);
            }
            self.seat(ask.client, wanted.module, standing);
        }
    }

    /// One module of a request's resolution.
    fn meet(&mut self, modules: &mut dyn Modules, wanted: &Wanted, ask: &Ask<'_>, now: Time) -> Standing {
        if wanted.verdict == Verdict::Builtin {
            return Standing::Builtin;
        }
        if self.table.state(wanted.module) == State::Live {
            self.tally.duplicates_live += 1;
            return Standing::Live;
        }
        // As with modprobe: an administrator who names the module itself means it.
        let meant =
            ask.asker.kind == Kind::Administrator && is_name(ask.alias, self.table.name(wanted.module));
        if !meant {
            if wanted.verdict == Verdict::Blacklisted {
                return Standing::Blacklisted;
            }
            let mut excluded = || wanted.policy.unless.as_deref().is_some_and(|path| modules.exists(path));
            if wanted.policy.mode == Mode::Never || excluded() {
                return Standing::RuledOut;
            }
        }
        let always = wanted.policy.mode == Mode::Always;
        self.want(modules, wanted.key(), &Ask { always, ..*ask }, now)
    }
}

/// Whether an alias is the module's own name; modprobe takes `-` for `_`.
fn is_name(alias: &[u8], name: &Name) -> bool {
    let underscored = alias.iter().map(|&byte| if byte == b'-' { b'_' } else { byte });
    underscored.eq(name.bytes())
}
