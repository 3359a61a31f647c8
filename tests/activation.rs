// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets that were listening before the daemon ran, handed over as systemd does it: LISTEN_PID, LISTEN_FDS, descriptor 3; and what
//! becomes of the name of the control socket.

mod common;

use std::fs::Permissions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use addonce::control::listener::{Listener, is_open};
use addonce::control::lock;
use addonce::fatal::Fatal;
use addonce::uevent::netlink::{BUFFER, Netlink, Received};
use common::devices::Devices;
use common::fixture::Fixture;
use common::flood::event;
use common::namespace::alone;
use common::proc::uevent_socket;
use common::running::{Running, addonce, landed};
use common::sender::Sender;
use common::socket::both_groups;
use common::supervisor::handing_over;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, setsockopt, socket, sockopt,
};

/// Holds some twenty uevents.
const SMALL: usize = 16 * 1024;

#[test]
fn a_socket_that_was_listening_before_keeps_every_event_until_the_daemon_runs() {
    alone("a_socket_that_was_listening_before_keeps_every_event_until_the_daemon_runs", || {
        let fixture = Fixture::build("semantics");
        for kind in [SockType::Raw, SockType::Datagram] {
            let socket = both_groups(kind);
            let port = getsockname::<NetlinkAddr>(socket.as_raw_fd()).unwrap().pid();
            let mut sender = Sender::open().unwrap();
            for n in 0..20 {
                sender.inject(&event(&format!("/devices/x{n}"), b"fxopt:1")).unwrap();
            }
            let running = Running::start_by(handing_over(socket, "1"), "debug", &fixture.flags());
            assert_eq!(uevent_socket(running.id()).port, port, "this socket and no other");
            sender.inject(&event("/devices/y", b"fxblack:1")).unwrap();
            let status = running.settled();
            assert_eq!((&status["uevents"]["read"], &status["requests"]), (&21.into(), &21.into()));
            assert_eq!(landed(&running.stop()), ["fx_opt".to_owned()].into());
        }
    });
}

#[test]
fn what_was_lost_before_the_socket_was_handed_over_is_read_from_sysfs() {
    alone("what_was_lost_before_the_socket_was_handed_over_is_read_from_sysfs", || {
        let (fixture, devices) = (Fixture::build("semantics"), Devices::none());
        for told in [false, true] {
            let socket = both_groups(SockType::Raw);
            setsockopt(&socket, sockopt::RcvBuf, &SMALL).unwrap();
            let mut sender = Sender::open().unwrap();
            (0..100).for_each(|_| sender.inject(&event("/devices/x", b"fxnone:1")).unwrap());
            if told {
                // The daemon before this one heard of it, read the queue empty, and died.
                let mut before = Netlink::adopt(socket.try_clone().unwrap()).unwrap();
                let mut buffer = [0; BUFFER];
                while !matches!(before.receive(&mut buffer), Received::Drained) {}
            } else {
                devices.appear(0, b"fxopt:1");
            }
            let running = Running::start_by(
                handing_over(socket, "1"),
                "debug",
                &[fixture.flags(), vec![devices.flag()]].concat(),
            );
            let drops = running.settled()["uevents"]["drops"].as_u64();
            assert_eq!(drops, Some(uevent_socket(running.id()).drops));
            assert!(drops > Some(50));
            assert_eq!(landed(&running.stop()), ["fx_opt".to_owned()].into());
        }
    });
}

#[test]
fn a_descriptor_of_another_kind_is_refused_by_its_number() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let directory = tempfile::tempdir().expect("tempdir");
    let elsewhere = directory.path().join("elsewhere");
    let file = std::fs::File::open("/dev/null").unwrap().into();
    let (stream, _peer) = UnixStream::pair().unwrap();
    let listener = UnixListener::bind(&elsewhere).unwrap();
    let unbound =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkKObjectUEvent);
    let refused = |socket: OwnedFd, count: &str, words: &[&str]| {
        let mut command = handing_over(socket, count);
        command.args(["daemon", "--dry-run", "--socket"]).arg(directory.path().join("io.addonce"));
        let mut child = command.args(fixture.flags()).stderr(Stdio::piped()).spawn().expect("sh");
        // A daemon that did not refuse would run for ever.
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().expect("wait").is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let output = child.wait_with_output().expect("wait");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(5), 1), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let way_out = "ListenNetlink=kobject-uevent 3";
    refused(file, "1", &["descriptor 3", way_out, "ListenStream=", "io.addonce"]);
    refused(stream.into(), "1", &["descriptor 3", "does not listen", way_out, "ListenStream="]);
    refused(listener.into(), "1", &["descriptor 3", "elsewhere", "--socket", "ListenStream="]);
    refused(unbound.unwrap(), "1", &["descriptor 3", "not in the kernel's group", way_out]);
    refused(both_groups(SockType::Raw), "2", &["LISTEN_FDS", "Bad file descriptor"]);
    refused(both_groups(SockType::Raw), "many", &["LISTEN_FDS"]);
    assert!(elsewhere.exists());
}

#[test]
fn sockets_that_were_meant_for_another_process_are_left_alone() {
    alone("sockets_that_were_meant_for_another_process_are_left_alone", || {
        let fixture = Fixture::build("semantics");
        let mut command = addonce();
        command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
        let running = Running::start_by(command, "debug", &fixture.flags());
        Sender::open().unwrap().inject(&event("/devices/x", b"fxopt:1")).unwrap();
        assert_eq!(running.settled()["uevents"]["read"], 1);
    });
}

/// Where a daemon would listen.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("io.addonce");
    (directory, path)
}

fn listen(given: Option<UnixListener>, path: &Path) -> Result<Listener, Fatal> {
    let lock = lock::take(path, Duration::ZERO, || false)?;
    Listener::new(given, path, lock.expect("there is need of it"))
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("stat").ino()
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced_and_one_that_somebody_does_is_not() {
    let (_directory, path) = place();
    let supervisor = UnixListener::bind(&path).expect("bind");
    let error = listen(None, &path).expect_err("somebody listens").to_string();
    assert!(error.contains("listens here already") && error.contains("--socket"), "{error}");
    drop(supervisor);
    // What another test has forked and not executed yet has the socket, too.
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_open(&path) {
        assert!(Instant::now() < deadline, "somebody listens still");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(path.exists(), "left behind");
    let listener = listen(None, &path).expect("replaced");
    assert!(is_open(&path));
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn the_socket_is_its_owners_alone() {
    let (_directory, path) = place();
    let _listener = listen(None, &path).expect("opened");
    assert_eq!(std::fs::metadata(&path).expect("stat").mode() & 0o777, 0o600);
}

#[test]
fn a_supervisors_socket_is_left_as_it_is() {
    let (_directory, path) = place();
    let supervisor = UnixListener::bind(&path).expect("bind");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
    let name = inode(&path);
    let listener = listen(Some(supervisor.try_clone().expect("dup")), &path).expect("adopted");
    drop(listener);
    assert_eq!(inode(&path), name);
    assert_eq!(std::fs::metadata(&path).expect("stat").mode() & 0o777, 0o600);
    assert!(is_open(&path), "it still listens");
}

#[test]
fn a_name_that_a_supervisor_took_is_not_removed() {
    let (_directory, path) = place();
    let listener = listen(None, &path).expect("opened");
    std::fs::remove_file(&path).expect("remove");
    let _supervisor = UnixListener::bind(&path).expect("bind");
    drop(listener);
    assert!(is_open(&path));
}
