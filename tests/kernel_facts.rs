// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Kernel facts: what the uevent room leans on
//!
//! Each test pins one behaviour of the running kernel that the code relies on and no document promises. When one
//! fails, the kernel has changed and the code has to be thought over, not the test. All but the last two run in
//! a network namespace of their own, where no hardware speaks, and need no root.

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use addonce::uevent::message::{self, Action};
use addonce::uevent::netlink::{BUFFER, Netlink, Received};
use addonce::uevent::sysfs::Scan;
use common::left_out::left_out;
use common::namespace::alone;
use common::sender::Sender;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recvfrom,
    sendto, socket,
};

fn cpu(action: &str, n: usize) -> Vec<u8> {
    let path = format!("/devices/system/cpu/cpu{n}");
    format!("{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM=cpu\0MODALIAS=cpu:x\0").into_bytes()
}

fn inject(events: std::ops::Range<usize>) {
    let mut sender = Sender::open().unwrap();
    events.for_each(|n| sender.inject(&cpu("add", n)).unwrap());
}

/// The next `receive` as a word.
fn next(netlink: &mut Netlink) -> &'static str {
    match netlink.receive(&mut [0; BUFFER]) {
        Received::Kernel(_) => "datagram",
        Received::Udev(..) => "udev",
        Received::Stranger => "stranger",
        Received::Truncated => "truncated",
        Received::Overflow => "overflow",
        Received::Drained => "drained",
        Received::Failed(error) => panic!("{error}"),
    }
}

/// How many datagrams come before the queue is empty, with nothing else among them.
fn drain(netlink: &mut Netlink) -> usize {
    let mut datagrams = 0;
    loop {
        match next(netlink) {
            "datagram" => datagrams += 1,
            "drained" => return datagrams,
            other => panic!("{other} after {datagrams} datagrams"),
        }
    }
}

#[test]
fn an_overflow_is_told_once_before_what_is_queued_and_the_drops_are_counted_exactly() {
    alone("an_overflow_is_told_once_before_what_is_queued_and_the_drops_are_counted_exactly", || {
        let mut netlink = Netlink::open(16 * 1024).unwrap();
        inject(0..500);
        inject(500..1000);
        assert_eq!(next(&mut netlink), "overflow");
        let queued = drain(&mut netlink);
        assert!(queued > 0);
        assert_eq!(queued + netlink.drops().unwrap() as usize, 1000);
        assert_eq!(netlink.counters.overflows, 1);
    });
}

#[test]
fn after_an_overflow_nothing_new_is_queued_until_the_queue_is_empty() {
    alone("after_an_overflow_nothing_new_is_queued_until_the_queue_is_empty", || {
        let mut netlink = Netlink::open(16 * 1024).unwrap();
        inject(0..1000);
        let dropped = netlink.drops().unwrap();
        assert_eq!(next(&mut netlink), "overflow");
        let half = (1000 - dropped) / 2;
        (0..half).for_each(|_| assert_eq!(next(&mut netlink), "datagram"));
        inject(0..3);
        assert_eq!(netlink.drops().unwrap(), dropped + 3, "there is room, and yet they are dropped");
        assert_eq!(drain(&mut netlink), (1000 - dropped - half) as usize);
        inject(0..3);
        assert_eq!(drain(&mut netlink), 3);
        assert_eq!(netlink.drops().unwrap(), dropped + 3);
    });
}

#[test]
fn a_poll_on_edges_wakes_once_for_an_overflow_and_again_only_after_a_drain_through_it() {
    alone("a_poll_on_edges_wakes_once_for_an_overflow_and_again_only_after_a_drain_through_it", || {
        let mut netlink = Netlink::open(16 * 1024).unwrap();
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
        let fd = netlink.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).unwrap();
        let mut wakes = |timeout| {
            poll.poll(&mut events, Some(Duration::from_millis(timeout))).unwrap();
            events.iter().map(|event| event.is_readable()).collect::<Vec<_>>()
        };
        inject(0..1000);
        assert_eq!(wakes(5000), [true]);
        assert_eq!(next(&mut netlink), "overflow");
        inject(0..1);
        assert!(wakes(200).is_empty(), "whoever stops at the overflow sleeps on a full queue");
        drain(&mut netlink);
        inject(0..1);
        assert_eq!(wakes(5000), [true]);
        assert_eq!(drain(&mut netlink), 1);
    });
}

#[test]
fn a_privileged_sender_is_broadcast_with_a_growing_seqnum_and_port_0() {
    alone("a_privileged_sender_is_broadcast_with_a_growing_seqnum_and_port_0", || {
        let mut netlink = Netlink::open(128 * 1024).unwrap();
        inject(0..3);
        let mut buffer = [0; BUFFER];
        let mut last = 0;
        for n in 0..3 {
            let Received::Kernel(datagram) = netlink.receive(&mut buffer) else { panic!("no datagram {n}") };
            let sent = cpu("add", n);
            assert_eq!(datagram[..sent.len()], sent);
            let uevent = message::parse(datagram).unwrap();
            assert!(uevent.seqnum > last && uevent.uuid.is_none());
            last = uevent.seqnum;
        }
    });
}

#[test]
fn another_process_cannot_pass_for_the_kernel() {
    alone("another_process_cannot_pass_for_the_kernel", || {
        let listener = kobject_socket(SockType::Raw);
        bind(listener.as_raw_fd(), &NetlinkAddr::new(0, 1)).unwrap();
        let port = getsockname::<NetlinkAddr>(listener.as_raw_fd()).unwrap().pid();
        let forger = kobject_socket(SockType::Raw);
        bind(forger.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
        let own = getsockname::<NetlinkAddr>(forger.as_raw_fd()).unwrap().pid();
        assert_ne!(own, 0, "asking for port 0 means: any but 0");
        let mut buffer = [0; BUFFER];
        for to in [NetlinkAddr::new(port, 0), NetlinkAddr::new(0, 1)] {
            let sent = sendto(forger.as_raw_fd(), &cpu("add", 0), &to, MsgFlags::empty()).unwrap();
            let (len, sender) = recvfrom::<NetlinkAddr>(listener.as_raw_fd(), &mut buffer).unwrap();
            assert_eq!((len, sender.unwrap().pid()), (sent, own));
            assert_eq!(recvfrom::<NetlinkAddr>(listener.as_raw_fd(), &mut buffer), Err(Errno::EAGAIN));
        }
    });
}

/// Needs the initial network namespace, and the right to write below /sys.
#[test]
fn an_event_that_was_asked_for_carries_synth_uuid() {
    let path = "/sys/devices/virtual/mem/null/uevent";
    let mut file = match fs::OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) => return left_out(&format!("{path}: {error}")),
    };
    let socket = kobject_socket(SockType::Datagram);
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1)).unwrap();
    let mut expect = |asked: &str, marks: &[&str]| {
        file.write_all(asked.as_bytes()).unwrap();
        let mut buffer = [0; BUFFER];
        // The kernel has queued it when write returns; what else happens on this machine may stand before it.
        loop {
            let datagram = match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut buffer) {
                Ok((length, _)) => &buffer[..length],
                Err(error) => panic!("{asked}: no event came (not the initial network namespace?): {error}"),
            };
            let uevent = message::parse(datagram).unwrap();
            if uevent.devpath != b"/devices/virtual/mem/null" {
                continue;
            }
            assert_eq!((uevent.action, uevent.uuid.is_some()), (Action::Add, true));
            for mark in marks {
                let found = datagram.split(|&byte| byte == 0).any(|field| field == mark.as_bytes());
                assert!(found, "{mark} is missing in {}", datagram.escape_ascii());
            }
            return;
        }
    };
    expect("add", &["SYNTH_UUID=0"]);
    let uuid = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed";
    expect(&format!("add {uuid} A=1"), &[&format!("SYNTH_UUID={uuid}"), "SYNTH_ARG_A=1"]);
}

/// Of the driver core: a uevent is sent for what has a bus or a class, and those have links.
#[test]
fn this_machine_has_no_device_that_the_links_miss() {
    fn walk(directory: &Path, found: &mut Vec<Vec<u8>>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), found);
            } else if entry.file_name() == "uevent"
                && fs::read(entry.path()).is_ok_and(|text| {
                    text.windows(10).any(|part| part == b"\nMODALIAS=") || text.starts_with(b"MODALIAS=")
                })
            {
                found.push(directory.as_os_str().as_bytes()["/sys".len()..].to_vec());
            }
        }
    }
    let mut walked = Vec::new();
    walk(Path::new("/sys/devices"), &mut walked);
    let mut scanned: Vec<_> = Scan::new("/sys").flatten().map(|device| device.devpath).collect();
    walked.sort();
    scanned.sort();
    assert_eq!(scanned, walked);
}

fn kobject_socket(kind: SockType) -> std::os::fd::OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkKObjectUEvent).unwrap()
}
