// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load` and `addonce retry`: an administrator's word that modules are to be attempted, and what becomes of them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::options::word;
use super::query::{Query, list, show, text};
use super::settings::Settings;
use crate::control::client::call;
use crate::escape::escape;
use crate::fatal::Fatal;

const SERVE: &str = "addonce serve";
/// So long a daemon may take to begin to listen.
const START: Duration = Duration::from_secs(5);
/// Between two looks whether it does.
const PAUSE: Duration = Duration::from_millis(5);

/// Load the modules of a modalias, or a module by its name, and wait for the outcome.
///
/// This is always an attempt, whatever failed before. Where no daemon runs, one is started.
#[derive(Args, Debug)]
pub struct Load {
    /// A modalias or a module's name.
    #[arg(value_parser = word())]
    alias: OsString,
    #[command(flatten)]
    query: Query,
}

/// Attempt failed modules again, now, and wait for what each comes to.
#[derive(Args, Debug)]
pub struct Retry {
    /// The modules [default: all that are remembered as failed].
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    modules: Vec<String>,
    #[command(flatten)]
    query: Query,
}

impl Load {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let alias = escape(self.alias.as_bytes());
        if alias.starts_with('/') {
            let why = "it takes a modalias or a module's name: `addonce explain` says what a device's are";
            return Err(Fatal::Usage(format!("{alias}: {why}")));
        }
        let reply = ask(&self.query.socket.socket, "Load", json!({ "alias": alias }))?;
        told(&self.query, &reply, Some(&alias))
    }
}

impl Retry {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = ask(&self.query.socket.socket, "Retry", json!({ "modules": self.modules }))?;
        told(&self.query, &reply, None)
    }
}

/// Calls the daemon, or one that is started for it.
fn ask(socket: &Path, method: &'static str, parameters: Value) -> Result<Value, Fatal> {
    let ask = || match call(socket, method, parameters.clone(), None) {
        Err(Fatal::NoDaemon(why)) => Err(why),
        reply => Ok(reply),
    };
    let why = match ask() {
        Ok(reply) => return reply,
        Err(why) => why,
    };
    if Settings::of_this_boot().off.is_some() {
        return Err(Fatal::NoDaemon(why));
    } else if !geteuid().is_root() {
        let why = "no daemon runs, and to start one takes root and CAP_SYS_MODULE";
        return Err(Fatal::System(why.into()));
    }
    let start = |stderr| start_daemon(socket, stderr).map_err(Fatal::at(SERVE));
    // It outlives us: who reads what we say to its end is not to wait for it, nor is an install command to die of a pipe that
    // nobody reads any more. Why it cannot is said by another one.
    let (mut serve, mut is_heard, deadline) = (start(Stdio::null())?, false, Instant::now() + START);
    loop {
        match ask() {
            Ok(reply) => return reply,
            Err(why) if Instant::now() > deadline => return Err(Fatal::NoDaemon(why)),
            Err(_) => {}
        }
        let status = serve.try_wait().map_err(Fatal::at(SERVE))?;
        if let Some(status) = status.filter(|status| !status.success()) {
            if !std::mem::replace(&mut is_heard, true) {
                serve = start(Stdio::inherit())?;
                continue;
            }
            return Err(Fatal::System(format!("{SERVE}: {status}: nothing can be loaded here")));
        }
        std::thread::sleep(PAUSE);
    }
}

fn start_daemon(socket: &Path, stderr: Stdio) -> std::io::Result<Child> {
    let mut serve = Command::new(std::env::current_exe()?);
    serve.args(["--log=warn", "serve", "--socket"]).arg(std::path::absolute(socket)?);
    // It is not for a device that we ask, should we run for one; and our directory may be unmounted.
    serve.env_remove("MODALIAS").current_dir("/");
    serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()
}

/// Prints what became of the modules that were asked for, a line for each. The exit code is 1 where one of them failed, or where there
/// was none.
fn told(query: &Query, reply: &Value, named: Option<&str>) -> Result<ExitCode, Fatal> {
    let answers = list(reply, "/answers");
    show(query.json, reply, |_| answers.iter().map(line).collect())?;
    if reply["dry_run"] == true {
        log::warn!("the daemon makes a dry run: nothing was loaded");
    }
    let unknown = named.filter(|_| answers.is_empty());
    if let Some(name) = unknown.filter(|_| !query.json) {
        log::error!("no module is known for {name}: should it be a device, see `addonce explain {name}`");
    }
    let failed = answers.iter().any(|answer| answer["state"] == "failed" || answer["state"] == "unknown");
    Ok(if failed || unknown.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(answer: &Value) -> String {
    let again = answer["again_in_ms"].as_u64();
    let again = again.map_or(String::new(), |ms| format!("; attempted again in {:.1} s", ms as f64 / 1e3));
    let name = text(answer, "/module");
    let all_the_same = format!("left alone; to load it all the same: addonce load {name}");
    let why = match text(answer, "/state") {
        "failed" => &format!("failed: {}{again}", text(answer, "/reason")),
        "blacklisted" => &format!("blacklisted: {all_the_same}"),
        "unknown" => &format!("has not failed; to load it: addonce load {name}"),
        "ruled_out" => &format!("ruled out by hwdb: {all_the_same}"),
        state => state,
    };
    format!("{name}: {why}\n")
}
