// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases of the scenario `fixes`: how often each may be attempted, and what has to be live in the end.
//!
//! Owns the expectations, and nothing else: `scenarios/fixes/run.sh` performs the cases under the same names,
//! `verdict` compares. A case has up to three phases: asked for in vain, asked for again, and asked for after the
//! fix (or after another try at what cannot be fixed). Every figure is an exact one. They change when the once rules
//! change, never because addonce misses one.

/// What a scenario says a case came to, beyond calls and modules.
pub struct Fact {
    pub name: &'static str,
    /// The words the scenario writes behind the name.
    pub value: &'static str,
    /// For the table.
    pub means: &'static str,
}

#[derive(Default)]
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// Insert calls made by addonce in each phase, by module without its `addonce_`.
    pub attempts: Vec<(String, Vec<u32>)>,
    /// Insert calls made by others, in all phases together.
    pub by_hand: Vec<&'static str>,
    pub live: Vec<String>,
    /// Not live when the case is over.
    pub idle: Vec<&'static str>,
    /// The attempts are made in the order of `attempts`.
    pub ordered: bool,
    /// All attempts are in the kernel at a time: the last begins before the first returns.
    pub together: bool,
    pub facts: Vec<Fact>,
}

/// A module that fails, is asked for again, and fixed.
fn fix(name: &'static str, title: &'static str, attempts: [u32; 3]) -> Case {
    Case { name, title, ..Case::default() }.tried(name, &attempts).live(name)
}

/// Something that is asked for once.
fn ask(name: &'static str, title: &'static str) -> Case {
    Case { name, title, ..Case::default() }
}

impl Case {
    fn tried(mut self, module: impl Into<String>, attempts: &[u32]) -> Self {
        self.attempts.push((module.into(), attempts.to_vec()));
        self
    }

    fn live(mut self, module: impl Into<String>) -> Self {
        self.live.push(module.into());
        self
    }

    /// Modules that are asked for once each, and come in.
    fn each(self, modules: impl IntoIterator<Item = String>) -> Self {
        modules.into_iter().fold(self, |case, module| case.tried(module.clone(), &[1]).live(module))
    }

    fn by_hand(mut self, module: &'static str) -> Self {
        self.by_hand.push(module);
        self
    }

    fn idle(mut self, modules: &[&'static str]) -> Self {
        self.idle.extend(modules);
        self
    }

    fn ordered(self) -> Self {
        Self { ordered: true, ..self }
    }

    fn together(self) -> Self {
        Self { together: true, ..self }
    }

    fn fact(mut self, name: &'static str, value: &'static str, means: &'static str) -> Self {
        self.facts.push(Fact { name, value, means });
        self
    }
}

/// What the kernel makes of an init function that says EEXIST. Linux 7.2 has it mean nothing but a module that is live already, and says
/// EBUSY instead; 6.12 hands it on.
#[derive(Clone, Copy)]
pub enum Init {
    Eexist,
    Ebusy,
}

/// By the kernel's version.
pub fn init_says(kernel: &str) -> Init {
    let major = kernel.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major >= 7 { Init::Ebusy } else { Init::Eexist }
}

/// `kernel_unpacks`: it is the kernel that unpacks modules, unless it cannot. `init_says`: what comes of a module whose init function says
/// EEXIST ([`init_says`]).
pub fn all(kernel_unpacks: bool, init_says: Init) -> Vec<Case> {
    let (once_or_thrice, said) = match init_says {
        Init::Eexist => (1, "EEXIST init"),
        Init::Ebusy => (3, "EBUSY insert"),
    };
    let numbered = |name: &str, count: usize| (0..count).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
    let shares = (0..20).map(|n| format!("share{n:02}"));
    vec![
        fix("cpu", "asked for by every CPU: a wrong option corrected in place", [1, 1, 1]),
        fix("blacklist", "a blacklist line removed", [0, 0, 1]),
        fix("missing", "a missing dependency's file added", [1, 1, 1]).tried("missing_dep", &[0, 0, 1]),
        fix("replaced", "the module file replaced and depmod run", [1, 1, 1]),
        fix("unindexed", "a missing dependency added and depmod run", [1, 1, 1])
            .tried("unindexed_dep", &[0, 0, 1]),
        fix("directory", "a modprobe.d directory created that did not exist", [1, 1, 1]),
        fix("enodev", "the conflicting module unloaded (ENODEV)", [1, 1, 1]).by_hand("enodev_rival"),
        // A transient errno is worth three tries each time.
        fix("ebusy", "the conflicting module unloaded (EBUSY)", [3, 3, 1]).by_hand("ebusy_rival"),
        fix(
            "eexist",
            "the conflicting module unloaded (its init says EEXIST)",
            [once_or_thrice, once_or_thrice, 1],
        )
        .by_hand("eexist_rival")
        .fact("said", said, "a failure, and not a module that is live"),
        // The kernel is asked again, since /sys has nothing of the file's name.
        ask("inner", "in a file of another name, as nvidia-current.ko has nvidia; unloaded by hand")
            .tried("inner_current", &[1, 1, 1])
            .by_hand("inner_current")
            .fact("failed-before", "0", "no failure meanwhile")
            .live("inner"),
        fix("hand", "the module loaded by hand", [1, 1, 0]).by_hand("hand").fact(
            "forgotten",
            "0",
            "forgotten at once",
        ),
        fix("failing", "a failed dependency loaded by hand", [0, 0, 1])
            .tried("failing_dep", &[1, 1, 0])
            .by_hand("failing_dep"),
        fix("hotplug", "new hardware, a genuine event, no trigger", [1, 1, 1]),
        fix("retry", "addonce retry, no trigger", [1, 1, 1]),
        // Rule 6, and then rules 1 and 3 against it.
        Case { live: Vec::new(), ..fix("stranger", "nothing fixed, another device asks", [1, 1, 0]) }
            .idle(&["stranger"]),
        fix("cause", "an option corrected, another device asks", [1, 1, 1]),
        fix("conflict", "the conflicting module unloaded, another device asks", [1, 1, 1])
            .by_hand("conflict_rival"),
        fix("indirect", "a dependency's option corrected, another device asks", [0, 0, 1])
            .tried("indirect_dep", &[1, 1, 1]),
        ask("slow", "200 clients ask for one slow module").each(["slow".into()]).fact(
            "answers",
            "200 exit 0: addonce_slow: live",
            "200 equal answers",
        ),
        ask("slowfail", "200 clients ask for one slow module that fails")
            .tried("slowfail", &[1])
            .idle(&["slowfail"])
            .fact(
                "answers",
                "200 exit 1: addonce_slowfail: failed: No such device (ENODEV)",
                "200 equal answers",
            ),
        ask("share", "20 modules share one dependency").each(["shared".into()]).each(shares),
        ask("soft", "softdeps: pre, the module, post")
            .each(["pre", "soft", "post"].map(Into::into))
            .ordered(),
        ask("packed", "packed as the kernel cannot unpack it")
            .tried("packed", &[1 + u32::from(kernel_unpacks)])
            .live("packed"),
        ask("eight", "8 independent modules of 4 s each").each(numbered("eight", 8)).together(),
        ask("hang", "one module hangs for 60 s ...").tried("hang0", &[1]),
        ask("swift", "... and delays no other").each(["swift".into()]).idle(&["hang0"]),
        (1..8).fold(ask("hangs", "as many hang as may load at a time ..."), |case, n| {
            case.tried(format!("hang{n}"), &[1])
        }),
        // A load that is older than 5 s counts no longer.
        ask("late", "... and delay no other for long").each(["late".into()]).idle(&["hang0", "hang7"]),
        ask("disabled", "kernel.modules_disabled=1, asked for three times")
            .tried("disabled", &[1, 0, 0])
            .idle(&["disabled"])
            .fact("said", "1", "said once")
            .fact("status", "disabled: kernel.modules_disabled is 1 until the next boot", "status answers"),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_performed_by_the_scenario() {
        let script = crate::scenario::find("fixes").unwrap().script();
        let script = std::fs::read_to_string(script).unwrap();
        for case in super::all(true, super::init_says("6.1.0-56-amd64")) {
            let performed = ["CASE=", "fix ", "clients ", "crowd ", "appear "].iter().any(|how| {
                script
                    .lines()
                    .any(|line| format!("{} ", line.trim()).starts_with(&format!("{how}{} ", case.name)))
            });
            assert!(performed, "{}", case.name);
        }
    }
}
