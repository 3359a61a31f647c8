// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load`: ask for a module, and wait for what becomes of it.
//!
//! Asked is who listens at the socket. Where nobody does, this process does the daemon's work: it takes the lock, listens,
//! serves itself and everybody who comes meanwhile (udev runs one of us per event), and goes when nobody is left. So
//! there is one core, one memory and one flight per module, with a daemon and without. Where a supervisor holds the socket
//! for a daemon that it will start, somebody listens: we wait there like any other client.
//!
//! Where nothing is to be loaded it does neither, and leaves that to udev's next program, which then need not run us.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nix::unistd::getuid;
use serde_json::{Value, json};

use super::asking::{Asking, print_answers};
use super::options::TreeOptions;
use super::serving::serve;
use crate::control::door;
use crate::control::lock::{Holder, Lock};
use crate::control::protocol::Load;
use crate::escape::{escape, unescape};
use crate::fatal::Fatal;
use crate::kmod::stamp::Stamp;
use crate::kmod::{Known, all_there};
use crate::once::{Name, Verdict};

/// Load the modules of a modalias, or a module by its name, and wait until they have landed.
///
/// Typed by hand it is an administrator's word, and always an attempt. Run by udev (ACTION and DEVPATH in the
/// environment) it is a request of that device: the once rules hold.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias or a module's name [default: the MODALIAS of the device udev runs it for].
    alias: Option<OsString>,
    /// Without a daemon: load nothing, say what would be loaded, and take it for live.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    tree: TreeOptions,
}

/// Between two looks at who listens.
const PAUSE: Duration = Duration::from_millis(5);
/// So long somebody may hold the lock and not listen.
const PATIENCE: Duration = Duration::from_secs(60);

impl Command {
    /// Asks and waits.
    ///
    /// # Errors
    /// No daemon, or one that refuses.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let variable = |name: &str| std::env::var_os(name).map(|value| escape(&value.into_vec()));
        let devpath = variable("ACTION").and_then(|_| variable("DEVPATH"));
        let given = self.alias.as_ref().map(|alias| escape(alias.as_bytes()));
        let alias =
            given.or_else(|| variable("MODALIAS").filter(|_| devpath.is_some())).ok_or_else(|| {
                Fatal::Usage(
                    "load what? name a module or a modalias; run by udev, MODALIAS would name it".into(),
                )
            })?;
        let genuine = devpath.as_ref().map(|_| variable("SYNTH_UUID").is_none());
        let parameters = json!(Load { alias: alias.clone(), devpath, genuine });
        let reply = self.ask(&parameters)?;
        print_answers(&reply, &alias, self.asking.json)
    }

    /// Asks who listens, until somebody does; where nobody may, we do.
    fn ask(&self, parameters: &Value) -> Result<Value, Fatal> {
        let mut deadline = Instant::now() + PATIENCE;
        let mut looked = false;
        loop {
            let asked = Instant::now();
            let no_daemon = match self.asking.order("Load", parameters.clone()) {
                Err(Fatal::NoDaemon(why)) => why,
                answer => return answer,
            };
            // As long as we were waiting for an answer, somebody listened.
            deadline += asked.elapsed();
            if !getuid().is_root() || Instant::now() > deadline {
                return Err(Fatal::NoDaemon(no_daemon));
            }
            if !std::mem::replace(&mut looked, true) {
                if let Some(answers) = self.there(parameters)? {
                    return Ok(answers);
                }
            }
            match Lock::take(self.asking.socket(), Holder::Load)? {
                // It is not a daemon's turn, but a supervisor's: a daemon went, and the next one is on its way.
                Ok(_lock) if door::is_open(self.asking.socket()) => {}
                Ok(lock) => {
                    return serve(lock, self.asking.socket(), self.dry_run, &self.tree, parameters.clone());
                }
                // It is about to listen, or about to go.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The answers, where nothing has to be loaded.
    fn there(&self, parameters: &Value) -> Result<Option<Value>, Fatal> {
        let alias = parameters["alias"].as_str().and_then(unescape).unwrap_or_default();
        let tree = self.tree.tree()?;
        let is_devices = parameters["devpath"].is_string() && !self.dry_run;
        // First the stamp: what changes between the two makes void what is left under it.
        let stamp = is_devices.then(|| tree.stamp());
        let modules = all_there(&tree, &alias)?;
        if let (Some(stamp), Some(modules)) = (stamp, &modules) {
            self.leave_known(&stamp, &alias, modules);
        }
        Ok(modules.map(|modules| {
            let answer = |(module, verdict): &(Name, Verdict)| {
                let state = if *verdict == Verdict::Builtin { "builtin" } else { "live" };
                json!({ "module": &**module, "state": state })
            };
            json!({ "answers": modules.iter().map(answer).collect::<Vec<_>>() })
        }))
    }
    /// Spares udev's next one the way here. Where somebody serves, or is about to, it is his to say what is known.
    fn leave_known(&self, stamp: &Stamp, alias: &[u8], modules: &[(Name, Verdict)]) {
        let socket = self.asking.socket();
        let Some(known) = Known::beside(socket, stamp).filter(|known| known.modules(alias).is_none()) else {
            return;
        };
        let Ok(Ok(_lock)) = Lock::take(socket, Holder::Load) else { return };
        let wanted = modules.iter().filter(|(_, verdict)| *verdict == Verdict::Load);
        let wanted = wanted.map(|(module, _)| &**module).collect();
        if let Err(error) = known.add([(alias, wanted)]) {
            log::debug!("what is known cannot be left beside {}: {error}", socket.display());
        }
    }
}
