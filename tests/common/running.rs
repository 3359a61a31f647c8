// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Running: an addonce daemon, for the length of a test

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::devices::Devices;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon and what it logs.
pub struct Running {
    child: Child,
    socket: PathBuf,
    directory: tempfile::TempDir,
    _devices: Devices,
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
        Self::start_by(addonce(), "debug", flags)
    }

    /// Starts a daemon that loads nothing by a command that takes addonce's arguments, with this level of its log,
    /// in a directory of its own.
    pub fn start_by(command: Command, level: &str, flags: &[String]) -> Self {
        Self::start_in(tempfile::tempdir().expect("tempdir"), command, level, flags)
    }

    /// Likewise, in a directory that another one ran in.
    pub fn start_in(
        directory: tempfile::TempDir,
        mut command: Command,
        level: &str,
        flags: &[String],
    ) -> Self {
        let socket = directory.path().join("io.addonce");
        // Without udev it scans: a machine without devices, unless the test has some.
        let devices = Devices::none();
        let sysfs = (!flags.iter().any(|flag| flag.starts_with("--sysfs="))).then(|| devices.flag());
        let mut child = command
            .current_dir(directory.path())
            .args(["daemon", "--dry-run", "--log", level, "--socket"])
            .arg(&socket)
            .args(flags)
            .args(sysfs)
            .stderr(Stdio::piped())
            .spawn()
            .expect("addonce");
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut running = Self { child, socket, directory, _devices: devices, lines, log: Vec::new() };
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
        let output = self.ask(&["settle", "--timeout=100"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Its counters, once nothing is left to do.
    pub fn settled(&self) -> serde_json::Value {
        self.settle();
        let status = self.json(&["status", "--json"]);
        assert_eq!(status["settled"], true, "{status:#}");
        status
    }

    /// Sends it a signal. By SIGSTOP it is stopped when this returns.
    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(process, signal).expect("kill");
        if signal == Signal::SIGSTOP {
            let status = waitpid(process, Some(WaitPidFlag::WUNTRACED)).expect("wait");
            assert_eq!(status, WaitStatus::Stopped(process, signal));
        }
    }

    /// The directory it runs in, which holds its socket and nothing else.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens.
    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by a signal, and returns the directory it ran in.
    pub fn end(mut self, signal: Signal) -> tempfile::TempDir {
        self.signal(signal);
        self.child.wait().expect("wait");
        std::mem::replace(&mut self.directory, tempfile::tempdir().expect("tempdir"))
    }

    /// Ends it by SIGTERM, and returns what it had logged, all of it.
    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
        let mut log = std::mem::take(&mut self.log);
        // A load that outlives it has the same standard error: then there is no end, but what was logged comes at once.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            log.push(line);
        }
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The modules that came in, by what a daemon logged.
pub fn landed(log: &[String]) -> BTreeSet<String> {
    let words = log.iter().filter_map(|line| line.strip_prefix("addonce: add_once "));
    words.filter_map(|rest| rest.split_once(" live ")).map(|(module, _)| module.to_owned()).collect()
}
