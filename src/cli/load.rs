// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load`: ask for a module, and wait for what becomes of it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use nix::unistd::geteuid;
use serde_json::json;

use super::query::Query;
use crate::control::listener;
use crate::escape::escape;
use crate::fatal::Fatal;

/// So long a daemon may take to begin to listen.
const START: Duration = Duration::from_secs(5);
/// Between two looks whether it does.
const PAUSE: Duration = Duration::from_millis(5);

/// Load the modules of a modalias, or a module by its name, and wait for the outcome.
///
/// It is an administrator's word, and always an attempt. Without a daemon one is started for the occasion.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias or a module's name.
    alias: OsString,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks and waits.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let alias = escape(self.alias.as_bytes());
        let order = || self.query.order("Load", json!({ "alias": alias }));
        let reply = match order() {
            Err(Fatal::NoDaemon(why)) if geteuid().is_root() => {
                self.start_daemon(why)?;
                order()?
            }
            reply => reply?,
        };
        self.query.print_answers(&reply, &alias)
    }

    /// Starts a daemon, and waits until it listens.
    fn start_daemon(&self, no_daemon: String) -> Result<(), Fatal> {
        let refused = |error| Fatal::System(format!("addonce serve: {error}"));
        let socket = &self.query.socket.socket;
        let mut serve = Process::new(std::env::current_exe().map_err(refused)?);
        serve.args(["--log=warn", "serve", "--socket"]).arg(socket);
        let mut serve = serve.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(refused)?;
        let deadline = Instant::now() + START;
        while !listener::is_open(socket) {
            let status = serve.try_wait().map_err(refused)?;
            // It has said why.
            if status.is_some_and(|status| !status.success()) || Instant::now() > deadline {
                return Err(Fatal::NoDaemon(no_daemon));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
