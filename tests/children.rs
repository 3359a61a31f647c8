// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Children: what an install command finds
//!
//! A real daemon, started as a supervisor would, with sockets, a notify socket, a watchdog and few files that may be open,
//! runs an install command, which writes down what it was started with. Nothing is inserted: the only module that is asked
//! for has the command in its place.

mod common;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addonce::kmod::Loader;
use addonce::once::{Cause, LoadError, Plan, Stage, Work};
use common::fixture::Fixture;
use common::modules::{SHOWN, WITH_MODULES};
use common::namespace::alone;
use common::running::addonce;
use common::supervisor::Supervisor;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// What the command writes into the directory $PLACE; /proc is in $PLACE/proc there.
const COMMAND: &str = "env > $PLACE/env; cat $PLACE/proc/self/status > $PLACE/status; \
                       ls $PLACE/proc/self/fd > $PLACE/descriptors; ulimit -S -n > $PLACE/files; \
                       ulimit -H -n >> $PLACE/files; mv $PLACE/files $PLACE/done";

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).expect("written").lines().map(str::to_owned).collect()
}

#[test]
fn an_install_command_cannot_tell_a_daemon_from_modprobe() {
    alone("an_install_command_cannot_tell_a_daemon_from_modprobe", || {
        let fixture = Fixture::build("semantics");
        let directory = tempfile::tempdir().expect("tempdir");
        let place = directory.path();
        fs::create_dir(place.join("proc")).expect("mkdir");
        fs::write(fixture.config().join("aaa.conf"), format!("install fx_opt {COMMAND}\n")).expect("write");
        let supervisor = Supervisor::listen(&directory);
        let activated = supervisor.addonce(true);
        let mut daemon = Command::new("unshare");
        daemon.args(["--mount", "sh", "-c", WITH_MODULES, "sh"]).arg(activated.get_program());
        daemon.args(activated.get_args()).args(["daemon", "--socket"]).arg(supervisor.path());
        daemon.args(fixture.flags()).envs([
            ("LISTEN_FDS", "2"),
            ("LISTEN_FDNAMES", "uevents:control"),
            ("NOTIFY_SOCKET", "/nowhere/notify"),
            ("WATCHDOG_USEC", "60000000"),
        ]);
        daemon.env("PLACE", place);
        let mut daemon = supervisor.hand_to(&mut daemon).stderr(Stdio::null()).spawn().expect("unshare");
        let mut load = Command::new("timeout");
        load.args(["60", "sh", "-c", SHOWN, "sh"]).arg(addonce().get_program()).env("PLACE", place);
        load.args(["load", "fx_opt", "--socket"]).arg(supervisor.path());
        let output = load.stdout(Stdio::piped()).output().expect("addonce");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_opt: live\n", "{output:?}");

        let environment: BTreeMap<String, String> = lines(&place.join("env"))
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(environment["MODPROBE_MODULE"], "fx_opt");
        let ours = ["LISTEN_", "NOTIFY_", "WATCHDOG_"];
        let left = environment.keys().filter(|name| ours.iter().any(|start| name.starts_with(start)));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<&String>::new());

        let status = lines(&place.join("status"));
        let mask = |name: &str| {
            let hex = status.iter().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
            u64::from_str_radix(&hex, 16).expect("a mask")
        };
        assert_eq!(mask("SigBlk:"), 0, "no signal is blocked");
        assert_eq!(mask("SigIgn:") >> (Signal::SIGPIPE as i32 - 1) & 1, 0, "SIGPIPE is not ignored");

        assert_eq!(
            lines(&place.join("descriptors")),
            ["0", "1", "2", "3"],
            "3 is the directory that ls reads"
        );
        assert_eq!(lines(&place.join("done"))[0], "300", "as many files as before");

        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).expect("kill");
        let deadline = Instant::now() + Duration::from_secs(20);
        while daemon.try_wait().expect("wait").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(supervisor.path().exists());
    });
}

fn command(command: &CStr) -> Result<(), LoadError> {
    let (deps, pre, post, policy) = Default::default();
    let work = Work::Install { command: command.to_owned(), options: c"".to_owned() };
    let plan = Plan { module: "addonce_test".into(), work, deps, pre, post, cause: Cause(0), policy };
    Loader::default().load(&plan)
}

/// It succeeded, and no module of that name is there.
const WITHOUT_MODULE: Result<(), LoadError> = Err(LoadError { errno: libc::EEXIST, stage: Stage::Insert });

fn failed(code: i32) -> Result<(), LoadError> {
    Err(LoadError { errno: libc::EINVAL, stage: Stage::Install(code) })
}

#[test]
fn an_install_command_answers_with_its_exit_status() {
    assert_eq!(command(c"exit 0"), WITHOUT_MODULE);
    assert_eq!(command(c"exit 7"), failed(7));
    assert_eq!(command(c"kill -9 $$"), failed(137));
}

#[test]
fn an_install_command_is_told_the_module_and_reads_nothing() {
    assert_eq!(command(c"test \"$MODPROBE_MODULE $#\" = 'addonce_test 0' && ! read line"), WITHOUT_MODULE);
}

#[test]
fn an_install_command_starts_with_no_signal_blocked_and_heeds_sigpipe() {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().expect("sigmask");
    let mask = command(c"grep -qx 'SigBlk:[[:space:]]*0*' /proc/self/status");
    // The thirteenth bit, which std's runtime sets in us.
    let pipe = command(c"grep -qx 'SigIgn:[[:space:]]*[0-9a-f]*[02468ace]...' /proc/self/status");
    blocked.thread_unblock().expect("sigmask");
    assert_eq!((mask, pipe), (WITHOUT_MODULE, WITHOUT_MODULE));
}
