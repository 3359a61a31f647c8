// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random world, as a value: a handful of modules, their aliases, and limits. It prints as the declaration
//! that `FakeModules::parse` reads, with what that cannot say behind a `#`.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::fake::FakeModules;
use addonce::once::Limits;
use addonce::once::Name;
use addonce::once::outcome::errno_name;
use addonce::once::{Backoff, Mode, Policy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// The path of `ADDONCE_UNLESS`.
pub const PATH: &str = "/unless";

/// Modules are numbers here; this is what they are called.
pub fn name(module: usize) -> Name {
    ["a", "b", "c", "d", "e", "f"][module].into()
}

/// The number of a module.
pub fn number(name: &str) -> usize {
    usize::from(name.as_bytes()[0] - b'a')
}

/// What kind of worlds a property needs.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    /// Modules need each other, before and after; aliases stand for several.
    pub related: bool,
    /// Limits are so small that they are reached.
    pub narrow: bool,
    /// One alias carries options.
    pub options: bool,
    /// `kernel.modules_disabled` may become 1.
    pub disabling: bool,
}

#[derive(Clone)]
pub struct World {
    pub modules: Vec<Module>,
    /// Alias number n is `x:n`, and stands for these.
    pub aliases: Vec<Vec<usize>>,
    /// The alias `x:0` carries options.
    pub options: bool,
    pub limits: Limits,
    /// When the kernel announces what we loaded: 0 never (it was lost), 1 before the load's end, 2 after it.
    pub announce: u8,
}

#[derive(Clone, Debug)]
pub struct Module {
    /// Transitive, deepest first.
    pub deps: Vec<usize>,
    pub pre: Vec<usize>,
    pub post: Vec<usize>,
    pub errno: i32,
    pub takes: u64,
    pub mode: Mode,
    pub unless: bool,
    /// Seconds.
    pub backoff: (u64, u64),
    pub blacklisted: bool,
    pub builtin: bool,
}

impl World {
    pub fn fake(&self) -> FakeModules {
        let mut fake = FakeModules::default();
        let names = |modules: &[usize]| modules.iter().map(|&module| name(module)).collect::<Vec<_>>();
        for (number, module) in self.modules.iter().enumerate() {
            let entry = fake.module(&name(number));
            entry.deps = names(&module.deps);
            entry.pre = names(&module.pre);
            entry.post = names(&module.post);
            entry.errno = module.errno;
            entry.takes = Duration::from_millis(module.takes);
            entry.blacklisted = module.blacklisted;
            entry.builtin = module.builtin;
            entry.policy = Arc::new(module.policy());
        }
        for (number, modules) in self.aliases.iter().enumerate() {
            fake.aliases.push((format!("x:{number}").into_bytes(), names(modules)));
        }
        fake
    }

    /// Everything that a request for these modules may have attempted.
    pub fn reach(&self, modules: &[usize]) -> Vec<usize> {
        let mut reached = modules.to_vec();
        let mut next = 0;
        while let Some(&here) = reached.get(next) {
            let module = &self.modules[here];
            for &other in module.deps.iter().chain(&module.pre).chain(&module.post) {
                if !reached.contains(&other) {
                    reached.push(other);
                }
            }
            next += 1;
        }
        reached
    }

    /// Whether some other module has this one attempted.
    pub fn is_pulled_in(&self, module: usize) -> bool {
        self.modules.iter().any(|other| {
            other.deps.contains(&module) || other.pre.contains(&module) || other.post.contains(&module)
        })
    }
}

impl Module {
    pub fn policy(&self) -> Policy {
        let seconds = Duration::from_secs;
        Policy {
            mode: self.mode,
            unless: self.unless.then(|| PATH.into()),
            backoff: Backoff { min: seconds(self.backoff.0), max: seconds(self.backoff.1) },
        }
    }
}

/// Errnos of every class: plain errors, conflicts (rule 3), and transient ones.
pub fn errno() -> impl Strategy<Value = i32> + Clone {
    use libc::{EAGAIN, EBUSY, EEXIST, EINVAL, ENODEV, ENOENT};
    prop_oneof![
        3 => Just(0),
        4 => select(vec![ENODEV, ENOENT, EINVAL]),
        2 => select(vec![EBUSY, EEXIST, EAGAIN]),
    ]
}

/// How long a load takes, in milliseconds; always whole ticks of 10.
pub fn takes() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![4 => select(vec![0u64, 10, 40, 200]), 1 => select(vec![1_000u64, 4_990, 6_000, 30_000])]
}

pub fn world(flavour: Flavour) -> impl Strategy<Value = World> {
    // Mostly so few that a short script meets each of them several times.
    let many: usize = if flavour.related { 6 } else { 3 };
    prop_oneof![2 => 1..=many, 3 => 2..=3usize].prop_flat_map(move |count| {
        let modules: Vec<_> = (0..count).map(|number| module(flavour, number, count)).collect();
        let all: Vec<usize> = (0..count).collect();
        let alias = subsequence(all, if flavour.related { 0..=count.min(3) } else { 0..=1 }).prop_shuffle();
        (modules, vec(alias, 1..4), limits(flavour.narrow), 0..3u8).prop_map(
            move |(modules, aliases, limits, announce)| {
                let modules = with_transitive_deps(modules);
                World { modules, aliases, options: flavour.options, limits, announce }
            },
        )
    })
}

fn module(flavour: Flavour, number: usize, count: usize) -> impl Strategy<Value = Module> {
    // Hard dependencies form no cycle (depmod refuses them); soft ones may.
    let below: Vec<usize> = (0..number).collect();
    let others: Vec<usize> = (0..count).filter(|&other| other != number).collect();
    let some = |of: Vec<usize>, most: usize| {
        let most = if flavour.related { most.min(of.len()) } else { 0 };
        prop_oneof![1 => Just(vec![]), 1 => subsequence(of, 0..=most).prop_shuffle()]
    };
    let mode = prop_oneof![8 => Just(Mode::Once), 1 => Just(Mode::Always), 1 => Just(Mode::Never)];
    let backoff = prop_oneof![4 => Just((1u64, 60u64)), 1 => Just((2u64, 4u64))];
    let rarely = || prop_oneof![9 => Just(false), 1 => Just(true)];
    let soft = (some(others.clone(), 2), some(others, 2));
    (some(below, 3), soft, errno(), takes(), mode, rarely(), backoff, rarely(), rarely()).prop_map(
        |(deps, (pre, post), errno, takes, mode, unless, backoff, blacklisted, builtin)| Module {
            deps,
            pre,
            post,
            errno,
            takes,
            mode,
            unless,
            backoff,
            blacklisted,
            builtin,
        },
    )
}

fn limits(narrow: bool) -> BoxedStrategy<Limits> {
    let some = |n| NonZeroUsize::new(n).expect("not zero");
    let wide = Limits { aliases: some(64), jobs: 16, processes: 64 };
    if !narrow {
        return Just(wide).boxed();
    }
    (1..4usize, 1..4usize, 1..4usize)
        .prop_map(move |(aliases, jobs, more)| Limits {
            aliases: some(aliases),
            jobs,
            processes: jobs + more - 1,
        })
        .boxed()
}

/// depmod lists what is needed transitively, the deepest first, without what is part of the kernel image.
fn with_transitive_deps(mut modules: Vec<Module>) -> Vec<Module> {
    for number in 0..modules.len() {
        let mut deps: Vec<usize> = Vec::new();
        for &dep in modules[number].deps.iter().filter(|&&dep| !modules[dep].builtin) {
            for &deeper in modules[dep].deps.iter().chain([&dep]) {
                if !deps.contains(&deeper) {
                    deps.push(deeper);
                }
            }
        }
        modules[number].deps = deps;
    }
    modules
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { aliases, jobs, processes } = self.limits;
        let announce = ["never", "before the end of a load", "after the end of a load"];
        writeln!(f, "# aliases {aliases} jobs {jobs} processes {processes}")?;
        writeln!(f, "# our own loads are announced {}", announce[usize::from(self.announce)])?;
        let names = |modules: &[usize]| modules.iter().map(|&m| format!(" {}", name(m))).collect::<String>();
        for (number, modules) in self.aliases.iter().enumerate() {
            let options = if self.options && number == 0 { " # with options" } else { "" };
            writeln!(f, "x:{number} ->{}{options}", names(modules))?;
        }
        for (number, module) in self.modules.iter().enumerate() {
            let name = name(number);
            writeln!(f, "{name} takes {}", module.takes)?;
            for (verb, objects) in [("needs", &module.deps), ("pre", &module.pre), ("post", &module.post)] {
                if !objects.is_empty() {
                    writeln!(f, "{name} {verb}{}", names(objects))?;
                }
            }
            if module.errno != 0 {
                writeln!(f, "{name} => {}", errno_name(module.errno))?;
            }
            for (word, said) in [("blacklisted", module.blacklisted), ("builtin", module.builtin)] {
                if said {
                    writeln!(f, "{name} {word}")?;
                }
            }
            if module.policy() != Policy::default() {
                writeln!(f, "# {name} {:?}", module.policy())?;
            }
        }
        Ok(())
    }
}
