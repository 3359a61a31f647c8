// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Running: an addonce daemon, for the length of a test

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon and what it logs.
pub struct Running {
    child: Child,
    socket: PathBuf,
    _directory: tempfile::TempDir,
    lines: Receiver<String>,
    /// What it has logged, as far as it was waited for.
    pub log: Vec<String>,
}

/// The program under test.
pub fn addonce() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_addonce"));
    for variable in ["ACTION", "DEVPATH", "MODALIAS", "SYNTH_UUID", "JOURNAL_STREAM"] {
        command.env_remove(variable);
    }
    command
}

impl Running {
    /// Starts a daemon that loads nothing, and waits until it listens.
    pub fn start(flags: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("io.addonce");
        let mut child = addonce()
            .args(["daemon", "--dry-run", "--log=debug", "--socket"])
            .arg(&socket)
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("addonce");
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut running = Self { child, socket, _directory: directory, lines, log: Vec::new() };
        running.wait_for("listening for uevents");
        running
    }

    /// Waits until a line with this in it is logged, and returns it.
    pub fn wait_for(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line =
                line.unwrap_or_else(|error| panic!("no \"{what}\" in the log: {error}: {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Asks the daemon by a command.
    pub fn ask(&self, command: &[&str]) -> Output {
        addonce().args(command).arg("--socket").arg(&self.socket).output().expect("addonce")
    }

    /// The answer to a command that has to succeed, as JSON.
    pub fn json(&self, command: &[&str]) -> serde_json::Value {
        let output = self.ask(command);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {output:?}"))
    }

    /// Waits until nothing is left to do.
    pub fn settle(&self) {
        let output = self.ask(&["settle", "--timeout=20"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Where it listens.
    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGTERM, and returns what it had logged, all of it.
    pub fn stop(mut self) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
        let rest: Vec<String> = self.lines.iter().collect();
        let mut log = std::mem::take(&mut self.log);
        log.extend(rest);
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
