// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load is a process of its own: what hangs or dies there is not the daemon's end.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use addonce::kmod::insert::{is_blacklisted_by_the_kernel as is_blacklisted, refuse_compressed_files};
use addonce::kmod::{Loader, initstate};
use addonce::once::{Cause, InitState, LoadError, Plan, Stage, Work};
use common::fixture::Fixture;
use common::namespace::alone;
use common::running::{Running, addonce};
use common::slow::Slow;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::signal::{Signal, kill};

/// Waits for something that is true in a moment.
fn in_time(what: &str, limit: Duration, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client that waits for the module whose load is slow.
fn ask(running: &Running) -> Child {
    let mut load = addonce();
    load.args(["load", "fx_opt", "--socket"]).arg(running.socket());
    load.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("addonce")
}

#[test]
fn a_killed_daemons_hanging_load_keeps_neither_its_lock_nor_its_socket() {
    alone("a_killed_daemons_hanging_load_keeps_neither_its_lock_nor_its_socket", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let mut waiting = ask(&running);
        slow.wait(&running);
        let process = slow.process(running.id());
        running.signal(Signal::SIGKILL);
        let waited = waiting.wait().expect("wait").code();
        assert_eq!(waited, Some(5), "who waits is told at once: to start another daemon is in vain here");
        let directory = running.end(Signal::SIGKILL);
        kill(process, None).expect("the load outlives the daemon");
        let began = Instant::now();
        let next = Running::start_in(directory, addonce(), "debug", &fixture.flags());
        let output = next.ask(&["load", "fx_twin"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_twin: live\n", "{output:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        kill(process, None).expect("and is still there");
        slow.let_go();
        in_time("the load ends", Duration::from_secs(5), || kill(process, None).is_err());
    });
}

#[test]
fn a_load_that_dies_is_an_outcome_within_a_second_and_no_zombie() {
    alone("a_load_that_dies_is_an_outcome_within_a_second_and_no_zombie", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let waiting = ask(&running);
        slow.wait(&running);
        let process = slow.process(running.id());
        let died = Instant::now();
        // As the kernel ends a process in which a driver oopses: by a signal that nobody has sent.
        kill(process, Signal::SIGILL).expect("kill");
        let output = waiting.wait_with_output().expect("addonce");
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
        assert_eq!(output.status.code(), Some(1));
        assert!(
            answer.starts_with(
                "fx_opt: failed: the process that loaded it died (signal 4): see dmesg (EFAULT)"
            ),
            "{answer}"
        );
        assert!(kill(process, None).is_err(), "nothing is left of it");
        // Everything else goes on, and the module may be asked for again.
        assert_eq!(running.ask(&["load", "fx_twin"]).status.code(), Some(0));
        let failures = running.json(&["failed", "--json"]);
        assert_eq!(
            (&failures["failures"][0]["stage"], &failures["failures"][0]["attempts"]),
            (&"died".into(), &1.into())
        );
    });
}

#[test]
fn a_load_that_somebody_kills_is_tried_again() {
    alone("a_load_that_somebody_kills_is_tried_again", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let waiting = ask(&running);
        slow.wait(&running);
        let first = slow.process(running.id());
        kill(first, Signal::SIGKILL).expect("kill");
        in_time("a second try", Duration::from_secs(5), || kill(first, None).is_err());
        slow.wait(&running);
        slow.let_go();
        let output = waiting.wait_with_output().expect("addonce");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_opt: live\n");
        assert_eq!(running.settled()["attempts"], 2);
    });
}

#[test]
fn a_daemon_has_one_thread_and_a_hanging_load_none_of_its_descriptors() {
    alone("a_daemon_has_one_thread_and_a_hanging_load_none_of_its_descriptors", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let mut waiting = ask(&running);
        slow.wait(&running);
        let entries = |path: String| fs::read_dir(path).expect("proc").count();
        assert_eq!(entries(format!("/proc/{}/task", running.id())), 1, "fork needs that");
        let process = slow.process(running.id());
        assert_eq!(entries(format!("/proc/{process}/fd")), 4, "0, 1, 2 and the pipe of its report");
        slow.let_go();
        assert!(waiting.wait().expect("wait").success());
        let children = format!("/proc/{0}/task/{0}/children", running.id());
        assert_eq!(fs::read_to_string(children).expect("children"), "", "no zombie");
    });
}

fn load(work: Work) -> LoadError {
    let (deps, pre, post, policy) = Default::default();
    let plan = Plan { module: "addonce_test".into(), work, deps, pre, post, cause: Cause(0), policy };
    Loader::default().load(&plan).expect_err("it is live")
}

fn insert(file: &Path) -> LoadError {
    load(Work::Insert { file: file.to_owned(), options: c"".to_owned() })
}

#[test]
fn a_file_that_is_not_there_is_no_answer_of_the_kernel() {
    let missing = insert(Path::new("/nonexistent/a.ko"));
    assert_eq!(missing, LoadError { errno: libc::ENOENT, stage: Stage::Read });
    assert_eq!(load(Work::Missing), LoadError { errno: libc::ENOENT, stage: Stage::Plan });
}

#[test]
fn what_is_no_module_is_refused_whatever_its_format() {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = directory.path().join("addonce_test.ko");
    // Where libkmod hands on what it makes of it, the kernel refuses that, or has no modules at all.
    for (image, stage) in [
        (&b"not a module"[..], Some(Stage::Insert)),
        (b"\x1f\x8b\x08 not gzip", None),
        (b"\xfd7zXZ\0 not xz", Some(Stage::Read)),
        (b"\x28\xb5\x2f\xfd no", None),
        (b"", Some(Stage::Read)),
    ] {
        fs::write(&file, image).expect("write");
        let refusal = insert(&file);
        assert!(stage.is_none_or(|stage| stage == refusal.stage), "{image:?}: {refusal:?}");
        assert!(refusal.errno > 0, "{image:?}: {refusal:?}");
    }
}

/// CRC64 or a large dictionary in an .xz, say (B18). Another filter stands in for such a kernel; of two the newer one counts.
#[test]
fn a_file_that_the_kernel_cannot_unpack_is_left_to_libkmod() {
    // A filter is a thread's.
    let in_a_thread = || {
        let file = tempfile::tempfile().expect("a file");
        let insert = |flags| finit_module(&file, c"", ModuleInitFlags::from_bits_retain(flags));
        let plain = insert(0);
        refuse_compressed_files(Errno::EINVAL).expect("a filter");
        assert_eq!(insert(4), Err(Errno::EINVAL));
        refuse_compressed_files(Errno::ENOSYS).expect("a filter");
        assert_eq!(insert(4), Err(Errno::ENOSYS), "by this libkmod unpacks it itself");
        assert_eq!(insert(0), plain, "what is not compressed is the kernel's");
    };
    std::thread::spawn(in_a_thread).join().expect("a thread");
}

#[test]
fn a_module_that_the_kernel_command_line_blacklists_is_told_from_others() {
    let line = "root=/dev/vda module_blacklist=nouveau,snd_hda_intel quiet";
    assert!(is_blacklisted(line, "nouveau") && is_blacklisted(line, "snd_hda_intel"));
    assert!(!is_blacklisted(line, "snd") && !is_blacklisted("modprobe.blacklist=a", "a"));
}

#[test]
fn absent_coming_live_and_going_are_four_different_things() {
    let sysfs = tempfile::tempdir().expect("tempdir");
    for name in ["live", "coming", "going", "bare"] {
        let directory = sysfs.path().join("module").join(name);
        fs::create_dir_all(&directory).expect("mkdir");
        if name != "bare" {
            fs::write(directory.join("initstate"), format!("{name}\n")).expect("write");
        }
    }
    let seen = ["live", "coming", "going", "bare", "none"].map(|name| initstate(sysfs.path(), name));
    assert_eq!(
        seen,
        [InitState::Live, InitState::Coming, InitState::Going, InitState::Coming, InitState::Absent],
        "a directory without initstate is a module on its way in"
    );
}
