// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load`: ask for a module, and wait for what becomes of it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::query::{Query, print_answers};
use crate::control::listener;
use crate::control::protocol::Load;
use crate::escape::escape;
use crate::fatal::Fatal;

/// So long a daemon may take to begin to listen.
const START: Duration = Duration::from_secs(5);
/// Between two looks whether it does.
const PAUSE: Duration = Duration::from_millis(5);

/// Load the modules of a modalias, or a module by its name, and wait for the outcome.
///
/// Typed by hand it is an administrator's word, and always an attempt. Run by udev (ACTION and DEVPATH in the
/// environment) it is a request of that device: the once rules hold. Without a daemon one is started for the occasion.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias or a module's name [default: the MODALIAS of the device udev runs it for].
    alias: Option<OsString>,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks and waits.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let variable = |name: &str| std::env::var_os(name).map(|value| escape(&value.into_vec()));
        // Run by udev it is the device's word.
        let mut load = match variable("ACTION").and_then(|_| variable("DEVPATH")) {
            Some(devpath) => Load {
                alias: variable("MODALIAS").unwrap_or_default(),
                devpath: Some(devpath),
                seqnum: variable("SEQNUM").and_then(|seqnum| seqnum.parse().ok()),
                synthetic: Some(variable("SYNTH_UUID").is_some()),
            },
            None => Load::default(),
        };
        if let Some(alias) = &self.alias {
            load.alias = escape(alias.as_bytes());
        }
        if load.alias.is_empty() {
            return Err(Fatal::Usage(
                "load what? name a module or a modalias; run by udev, MODALIAS would name it".into(),
            ));
        }
        let (alias, load) = (load.alias.clone(), json!(load));
        let reply = match self.query.order("Load", load.clone()) {
            Err(Fatal::NoDaemon(why)) if geteuid().is_root() => self.start_and_ask(load, why)?,
            reply => reply?,
        };
        print_answers(&reply, &alias, self.query.json)
    }

    /// Starts a daemon, and asks it.
    fn start_and_ask(&self, load: Value, why: String) -> Result<Value, Fatal> {
        let refused = |error| Fatal::System(format!("addonce serve: {error}"));
        let socket = &self.query.socket.socket;
        let mut serve = Process::new(std::env::current_exe().map_err(refused)?);
        serve
            .args(["--log=warn", "serve", "--socket"])
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut serve = serve.spawn().map_err(refused)?;
        let deadline = Instant::now() + START;
        while !listener::is_open(socket) {
            let status = serve.try_wait().map_err(refused)?;
            // It has said why.
            if status.is_some_and(|status| !status.success()) || Instant::now() > deadline {
                return Err(Fatal::NoDaemon(why));
            }
            std::thread::sleep(PAUSE);
        }
        self.query.order("Load", load)
    }
}
