// SPDX-License-Identifier: MIT OR Apache-2.0
//! A random script, as a value. It prints in the words of `Simulation` where that has some.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::{Flavour, World, errno, name, takes, world};

/// What happens. Modules and aliases are taken modulo what the world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Milliseconds.
    Pass(u64),
    Event {
        device: u8,
        alias: usize,
        genuine: bool,
    },
    Scan {
        device: u8,
        alias: usize,
    },
    /// An administrator, or the device for which udev runs `addonce load` and whether it is genuine.
    Client {
        alias: usize,
        device: Option<(u8, bool)>,
    },
    /// The kernel, by its helper.
    Kernel(usize),
    Retry,
    /// So many clients back.
    Gone(u64),
    ByHand(usize),
    Unload(usize),
    /// As `Unload`, but the event is lost; `Lost` comes later.
    UnloadUnseen(usize),
    /// As `ByHand`, but the event is lost; `Lost` comes later.
    ByHandUnseen(usize),
    Lost,
    /// Another process takes over, if nothing is being loaded.
    Restart,
    /// The file is replaced by one that works.
    Fix(usize),
    /// The file is replaced by one that is no better.
    Replace(usize),
    /// The kernel answers otherwise from now on, and nothing shows it.
    Answer(usize, i32),
    Takes(usize, u64),
    Blacklist(usize),
    /// The module joins the alias, or leaves it.
    Alias(usize, usize),
    /// The path of `ADDONCE_UNLESS` comes or goes.
    Path,
    Disable,
}

/// A world and what happens in it.
#[derive(Clone)]
pub struct Case {
    pub world: World,
    pub steps: Vec<Step>,
}

/// What an alias number means: an alias, or a module's name.
pub fn alias(world: &World, alias: usize) -> String {
    let (aliases, modules) = (world.aliases.len(), world.modules.len());
    match alias % (aliases + modules) {
        number if number < aliases => format!("x:{number}"),
        number => name(number - aliases).to_string(),
    }
}

pub fn case(flavour: Flavour, most: usize) -> impl Strategy<Value = Case> {
    (world(flavour), vec(step(flavour), 1..most)).prop_map(|(world, steps)| Case { world, steps })
}

fn step(flavour: Flavour) -> impl Strategy<Value = Step> {
    let device = || 0..4u8;
    let any_alias = || 0..9usize;
    let module = || 0..6usize;
    let asking = prop_oneof![
        8 => (device(), any_alias()).prop_map(|(device, alias)| Step::Event { device, alias, genuine: false }),
        3 => (device(), any_alias()).prop_map(|(device, alias)| Step::Event { device, alias, genuine: true }),
        2 => (device(), any_alias()).prop_map(|(device, alias)| Step::Scan { device, alias }),
        2 => any_alias().prop_map(|alias| Step::Client { alias, device: None }),
        2 => (any_alias(), device(), any::<bool>())
            .prop_map(|(alias, device, genuine)| Step::Client { alias, device: Some((device, genuine)) }),
        3 => any_alias().prop_map(Step::Kernel),
        1 => Just(Step::Retry),
        1 => (0..3u64).prop_map(Step::Gone),
    ];
    let short = select(vec![0u64, 10, 50, 90, 500]);
    let long = select(vec![1_000u64, 1_010, 2_000, 4_000, 5_010, 8_000, 64_000]);
    let passing = prop_oneof![3 => short, 2 => long].prop_map(Step::Pass);
    let kernel = prop_oneof![
        3 => module().prop_map(Step::ByHand),
        3 => module().prop_map(Step::Unload),
        1 => module().prop_map(Step::UnloadUnseen),
        1 => module().prop_map(Step::ByHandUnseen),
        1 => Just(Step::Lost),
        2 => Just(Step::Restart),
        3 => (module(), errno()).prop_map(|(module, errno)| Step::Answer(module, errno)),
        1 => (module(), takes()).prop_map(|(module, takes)| Step::Takes(module, takes)),
    ];
    let disable = if flavour.disabling { Step::Disable } else { Step::Path };
    let administration = prop_oneof![
        4 => module().prop_map(Step::Fix),
        3 => module().prop_map(Step::Replace),
        2 => module().prop_map(Step::Blacklist),
        2 => (0..3usize, module()).prop_map(|(alias, module)| Step::Alias(alias, module)),
        1 => Just(Step::Path),
        1 => Just(disable),
    ];
    prop_oneof![10 => asking, 8 => passing, 4 => kernel, 3 => administration]
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.world)?;
        let mut clients = 0;
        for step in &self.steps {
            clients += u64::from(matches!(step, Step::Client { .. } | Step::Kernel(_) | Step::Retry));
            writeln!(f, "{}", line(&self.world, *step, clients))?;
        }
        Ok(())
    }
}

/// One step, as a line of a script.
fn line(world: &World, step: Step, clients: u64) -> String {
    let of = |module: usize| name(module % world.modules.len());
    let alias = |number| alias(world, number);
    match step {
        Step::Pass(ms) => format!("s.pass(Duration::from_millis({ms}));"),
        Step::Event { device, alias: a, genuine } => {
            let verb = if genuine { "appear" } else { "replay" };
            format!("s.{verb}(\"/devices/{device}\", \"{}\");", alias(a))
        }
        Step::Scan { device, alias: a } => {
            format!("s.request(b\"{}\", Origin::Scan {{ devpath: b\"/devices/{device}\" }});", alias(a))
        }
        Step::Client { alias: a, device: None } => format!("s.client({clients}, \"{}\");", alias(a)),
        Step::Client { alias: a, device: Some((device, genuine)) } => format!(
            "s.request(b\"{}\", Origin::Client {{ client: {clients}, device: Some(Device {{ devpath: \
             b\"/devices/{device}\", genuine: {genuine} }}) }});",
            alias(a)
        ),
        Step::Kernel(a) => format!("s.kernel({clients}, \"{}\");", alias(a)),
        Step::Retry => format!("s.core.retry(&mut s.world, Some({clients}), &[], s.now());"),
        Step::Gone(back) => format!("s.core.client_gone({});", clients.saturating_sub(back)),
        Step::ByHand(m) => format!("s.loaded_by_hand(\"{}\"); // after what it needs", of(m)),
        Step::Unload(m) => format!("s.unloaded(\"{}\"); // if it is live and not in use", of(m)),
        Step::UnloadUnseen(m) => format!("s.world.live.remove(\"{}\"); // if it is not in use", of(m)),
        Step::ByHandUnseen(m) => format!("s.world.live.insert(\"{}\".into()); // after what it needs", of(m)),
        Step::Lost => "s.core.events_lost();".into(),
        Step::Restart => {
            "s.core = Scheduler::restore(limits, s.core.snapshot(), s.now()); // if nothing is being loaded"
                .into()
        }
        Step::Fix(m) => format!("s.world.module(\"{0}\").version += 1; ….errno = 0;", of(m)),
        Step::Replace(m) => format!("s.world.module(\"{}\").version += 1;", of(m)),
        Step::Answer(m, errno) => format!("s.world.module(\"{}\").errno = {errno};", of(m)),
        Step::Takes(m, ms) => {
            format!("s.world.module(\"{}\").takes = Duration::from_millis({ms});", of(m))
        }
        Step::Blacklist(m) => {
            format!("s.world.module(\"{}\").blacklisted ^= true; s.world.changed = true;", of(m))
        }
        Step::Alias(a, m) => {
            let a = a % world.aliases.len();
            format!("// x:{a} gains or loses {}: s.world.aliases[{a}]; s.world.changed = true;", of(m))
        }
        Step::Path => "// the path /unless comes or goes: s.world.paths".into(),
        Step::Disable => "s.world.disabled = true;".into(),
    }
}
