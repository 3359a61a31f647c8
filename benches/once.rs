// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a modalias and a module cost, in process.
//!
//! Requests by 64 and 4096 devices (a distribution has about as many modules): each with a modalias of its own, and each for a module of its own. Once in the
//! scheduler alone, where the answers are at hand, and once with those of libkmod and hwdb over the module tree that ADDONCE_TREE
//! names; and what it costs to look whether something in that tree has changed. Nothing is inserted, and no socket is read.
//!
//! That each request was what was meant to be measured is made sure of by the scheduler's own counters.

#[path = "../tests/common/figures.rs"]
mod figures;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use addonce::kmod::{Resolver, Tree};
use addonce::once::{
    Action, Candidate, Cause, InitState, Limits, Modules, Name, Origin, Outcome, Plan, Request, Scheduler,
    Time, Verdict, Work,
};
use figures::Figures;
use serde_json::json;

const ROUNDS: usize = 5;
/// Requests whose answers are not followed up at once, as an event loop takes them.
const BATCH: usize = 512;
/// Looks at a tree.
const LOOKS: usize = 1000;

/// A world that answers at once: what the core alone costs. A modalias is for
#[derive(Clone, Copy)]
enum AtHand {
    /// no module,
    None,
    /// or a module of its own.
    Each,
}

/// The real answers of a tree. The kernel of this machine is not asked.
struct OfTree(Resolver);

fn main() -> ExitCode {
    let Some(tree) = std::env::var_os("ADDONCE_TREE").map(PathBuf::from) else {
        eprintln!(
            "ADDONCE_TREE is not set: `ADDONCE_TREE=$(target/release/lab tree) cargo bench --bench once`"
        );
        return ExitCode::FAILURE;
    };
    let modules = modules_of(&tree);
    let of_tree = || OfTree(Resolver::open(described(&tree)).expect("a module tree"));
    let mut figures = Figures::of("once");
    for devices in [64, 4096] {
        let unknown: Vec<_> = (0..devices).map(|n| pci("DEADBEEF", n)).collect();
        let known: Vec<_> = (0..devices).map(|n| pci("00008086", n)).collect();
        let some = &modules[..devices.min(modules.len())];
        let mut add = |what: &str, requests: usize, ns: u64| {
            println!("{what}, {devices} devices: {ns} ns");
            figures.add(&json!({"what": what, "devices": devices, "requests": requests, "ns": ns}));
        };
        add("a modalias without a module, the core alone", devices, none(|| AtHand::None, &unknown));
        add("a modalias without a module, libkmod asked", devices, none(of_tree, &unknown));
        add("a module that comes in, the core alone", devices, once(|| AtHand::Each, &known));
        add("a module that comes in, libkmod asked", some.len(), once(of_tree, some));
    }
    let mut tree = of_tree().0;
    let looks = || timed(LOOKS, || (0..LOOKS).for_each(|_| assert!(!tree.refresh())));
    let ns = median(looks);
    println!("a look whether indexes or configuration have changed: {ns} ns");
    let some: Vec<Name> = modules.iter().take(LOOKS).map(|name| name.as_str().into()).collect();
    let mut causes =
        || timed(some.len(), || assert!(some.iter().all(|name| tree.cause(name, None) != Cause(0))));
    // From the second time on, files are all there is to look at.
    causes();
    let ns = median(causes);
    println!("a look whether the cause of a failure has changed: {ns} ns");
    ExitCode::SUCCESS
}

/// Each device has a modalias that no module is for.
fn none<W: Modules>(world: impl Fn() -> W, aliases: &[String]) -> u64 {
    median(|| {
        let mut world = world();
        let mut core = Scheduler::new(Limits::default());
        let ns = timed(aliases.len(), || ask(&mut core, &mut world, aliases));
        assert_eq!(core.stats().no_module, aliases.len() as u64);
        ns
    })
}

/// Each device has a module of its own, which comes in. A distribution forbids a few of its modules, so the time is shared
/// among those that were loaded.
fn once<W: Modules>(world: impl Fn() -> W, aliases: &[String]) -> u64 {
    median(|| {
        let mut world = world();
        let mut core = Scheduler::new(Limits::default());
        let began = Instant::now();
        ask(&mut core, &mut world, aliases);
        let (took, stats) = (began.elapsed().as_nanos(), core.stats());
        assert!(core.is_settled() && stats.failed == 0 && stats.attempts > aliases.len() as u64 * 9 / 10);
        (took / u128::from(stats.attempts)) as u64
    })
}

/// The requests of a trigger, and all that comes of them.
fn ask(core: &mut Scheduler, world: &mut impl Modules, aliases: &[String]) {
    for (number, alias) in aliases.iter().enumerate() {
        let devpath = format!("/devices/pci0000:00/{number:06x}");
        let origin =
            Origin::Uevent { devpath: devpath.as_bytes(), seqnum: number as u64 + 1, synthetic: true };
        core.request(world, Request { alias: alias.as_bytes(), origin, client: None }, Time::ZERO);
        if number % BATCH == BATCH - 1 || number == aliases.len() - 1 {
            follow_up(core, world);
        }
    }
}

/// Every load ends well, at once.
fn follow_up(core: &mut Scheduler, world: &mut impl Modules) {
    while let Some(action) = core.next_action() {
        if let Action::Load(plan) = action {
            core.finished(world, &plan.module, Outcome::Live, Time::ZERO);
        }
    }
}

fn timed(requests: usize, run: impl FnOnce()) -> u64 {
    let began = Instant::now();
    run();
    (began.elapsed().as_nanos() / requests as u128) as u64
}

fn median(mut run: impl FnMut() -> u64) -> u64 {
    let mut times: Vec<u64> = (0..ROUNDS).map(|_| run()).collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

fn pci(vendor: &str, number: usize) -> String {
    format!("pci:v{vendor}d0000FFFFsv{number:08X}sd00000000bcFFscFFi00")
}

/// The only kernel of this tree.
fn described(tree: &Path) -> Tree {
    let directory = tree.join("lib/modules");
    let kernel = std::fs::read_dir(&directory).expect("kernels").next().expect("a kernel").expect("readable");
    let kernel = kernel.file_name().into_string().expect("text");
    Tree { modules_dir: directory, kernel, sysfs: "/sys".into(), config: Vec::new() }
}

/// The names of all modules that depmod listed.
fn modules_of(tree: &Path) -> Vec<String> {
    let listed = described(tree).directory().join("modules.dep");
    let listed = std::fs::read_to_string(listed).expect("modules.dep");
    let name = |line: &str| {
        let file = line.split(':').next()?.rsplit('/').next()?;
        Some(file.split(".ko").next()?.replace('-', "_"))
    };
    listed.lines().filter_map(name).collect()
}

impl Modules for AtHand {
    fn refresh(&mut self) -> bool {
        false
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        let module = match self {
            Self::None => return Vec::new(),
            Self::Each => std::str::from_utf8(alias).expect("text"),
        };
        vec![Candidate {
            module: module.into(),
            verdict: Verdict::Load,
            options: None,
            policy: Arc::default(),
        }]
    }

    fn plan(&mut self, module: &Name, _: Option<&CString>) -> Plan {
        let work = Work::Insert { file: "/a.ko".into(), options: CString::default() };
        let (deps, pre, post, policy) = Default::default();
        Plan { module: module.clone(), work, deps, pre, post, cause: Cause(0), policy }
    }

    fn initstate(&mut self, _: &str) -> InitState {
        InitState::Absent
    }

    fn exists(&mut self, _: &Path) -> bool {
        false
    }
}

impl Modules for OfTree {
    fn refresh(&mut self) -> bool {
        false
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        self.0.resolve(alias)
    }

    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan {
        self.0.plan(module, options)
    }

    fn initstate(&mut self, _: &str) -> InitState {
        InitState::Absent
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.0.exists(path)
    }
}
