// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Activation: a socket that was listening before the daemon ran
//!
//! Handed over as systemd does it: LISTEN_PID, LISTEN_FDS, descriptor 3.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use addonce::uevent::netlink::{BUFFER, Netlink, Received, Sender};
use common::devices::Devices;
use common::fixture::Fixture;
use common::flood::event;
use common::namespace::alone;
use common::proc::uevent_socket;
use common::running::{Running, addonce, landed};
use common::socket::kernel_group;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, setsockopt, socket, sockopt,
};

/// Holds some twenty uevents.
const SMALL: usize = 16 * 1024;

/// addonce by way of a shell that hands it standard input as descriptor 3, as a supervisor does.
fn activated(socket: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    hand_over(&mut command, socket);
    command
}

fn hand_over(command: &mut Command, socket: OwnedFd) {
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_addonce")])
        .stdin(socket)
        .env("LISTEN_FDS", "1");
}

#[test]
fn a_socket_that_was_listening_before_keeps_every_event_until_the_daemon_runs() {
    alone("a_socket_that_was_listening_before_keeps_every_event_until_the_daemon_runs", || {
        let fixture = Fixture::build("semantics");
        for kind in [SockType::Raw, SockType::Datagram] {
            let socket = kernel_group(kind);
            let port = getsockname::<NetlinkAddr>(socket.as_raw_fd()).unwrap().pid();
            let mut sender = Sender::open().unwrap();
            for n in 0..20 {
                sender.inject(&event(&format!("/devices/x{n}"), b"fxopt:1")).unwrap();
            }
            let running = Running::start_by(activated(socket), "debug", &fixture.flags());
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
            let socket = kernel_group(SockType::Raw);
            setsockopt(&socket, sockopt::RcvBuf, &SMALL).unwrap();
            let mut sender = Sender::open().unwrap();
            (0..100).for_each(|_| sender.inject(&event("/devices/x", b"fxnone:1")).unwrap());
            if told {
                // The daemon before this one heard of it, read the queue empty, and died.
                let mut before = Netlink::adopt(socket.try_clone().unwrap(), 0).unwrap();
                let mut buffer = [0; BUFFER];
                while !matches!(before.receive(&mut buffer), Received::Drained) {}
            } else {
                devices.appear(0, b"fxopt:1");
            }
            let running = Running::start_by(
                activated(socket),
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
    let fixture = Fixture::build("semantics");
    let file = std::fs::File::open("/dev/null").unwrap().into();
    let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let unbound =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkKObjectUEvent);
    let refused = |socket: OwnedFd, count: &str, words: &[&str]| {
        // A daemon that did not refuse would run for ever.
        let mut command = Command::new("timeout");
        command.args(["20", "sh"]);
        hand_over(&mut command, socket);
        command.env("LISTEN_FDS", count).args(["daemon", "--dry-run"]).args(fixture.flags());
        let output = command.output().expect("timeout (coreutils)");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(5), 1), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let way_out = "ListenNetlink=kobject-uevent 1";
    refused(file, "1", &["descriptor 3", way_out]);
    refused(stream.into(), "1", &["descriptor 3", "family 1", way_out]);
    refused(unbound.unwrap(), "1", &["descriptor 3", "not in the kernel's group", way_out]);
    refused(kernel_group(SockType::Raw), "2", &["LISTEN_FDS", "Bad file descriptor"]);
    refused(kernel_group(SockType::Raw), "many", &["LISTEN_FDS"]);
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
