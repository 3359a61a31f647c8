// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Netlink: the socket, against the kernel's own
//!
//! Runs the uevent room over the real socket: what a privileged process writes to port 0 the kernel broadcasts to all
//! listeners of its network namespace. Each test has a namespace of its own and needs no root.

mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::time::Duration;

use addonce::uevent::capture::{Reader, Writer};
use addonce::uevent::message::{parse, parse_udev};
use addonce::uevent::netlink::{BUFFER, Counters, Netlink, Received, Sender};
use common::namespace::{again, alone, depth};
use common::socket::both_groups;
use common::udev::Udevd;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, SockType, getsockname, getsockopt, sendto, setsockopt, sockopt,
};

/// What every system grants without privilege: net.core.rmem_max is 212992 where nobody changed it.
const ROOM: usize = 128 * 1024;

fn card(n: usize) -> Vec<u8> {
    let path = format!("/devices/pci0/card{n}");
    [
        format!("add@{path}\0ACTION=add\0DEVPATH={path}\0SUBSYSTEM=pci\0MODALIAS=pci:").as_bytes(),
        b"\xff[*\\\n\0",
    ]
    .concat()
}

#[test]
fn a_storm_is_received_parsed_and_counted() {
    alone("a_storm_is_received_parsed_and_counted", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let mut sender = Sender::open().unwrap();
        let mut buffer = [0; BUFFER];
        for n in 0..1000 {
            if n % 50 == 0 {
                (n..n + 50).for_each(|n| sender.inject(&card(n)).unwrap());
            }
            let Received::Kernel(datagram) = netlink.receive(&mut buffer) else { panic!("no datagram {n}") };
            let uevent = parse(datagram).unwrap();
            assert_eq!(uevent.devpath, format!("/devices/pci0/card{n}").as_bytes());
            assert_eq!(uevent.modalias, Some(&b"pci:\xff[*\\\n"[..]));
        }
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
        assert_eq!(netlink.counters(), Counters { kernel: 1000, ..Counters::default() });
        assert_eq!(netlink.drops().unwrap(), 0);
    });
}

#[test]
fn strangers_and_oversized_datagrams_are_counted_and_not_shown() {
    alone("strangers_and_oversized_datagrams_are_counted_and_not_shown", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let port = getsockname::<NetlinkAddr>(netlink.as_raw_fd()).unwrap().pid();
        let forger = both_groups(SockType::Raw);
        let forged = |len: usize| {
            let mut datagram = card(0);
            datagram.resize(len, 0);
            sendto(forger.as_raw_fd(), &datagram, &NetlinkAddr::new(port, 0), MsgFlags::empty()).unwrap();
        };
        forged(100);
        forged(2 * BUFFER);
        let mut sender = Sender::open().unwrap();
        sender.inject(&card(1)).unwrap();
        sender.inject(&card(2)).unwrap();
        let (mut buffer, mut small) = ([0; BUFFER], [0; 64]);
        assert!(matches!(netlink.receive(&mut buffer), Received::Stranger));
        assert!(matches!(netlink.receive(&mut buffer), Received::Stranger));
        assert!(matches!(netlink.receive(&mut small), Received::Truncated));
        assert!(matches!(netlink.receive(&mut buffer), Received::Kernel(_)));
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
        assert_eq!(
            netlink.counters(),
            Counters { kernel: 1, udev: 0, strangers: 2, truncated: 1, overflows: 0 }
        );
    });
}

#[test]
fn what_udevd_broadcasts_comes_in_one_order_with_what_the_kernel_announces() {
    alone("what_udevd_broadcasts_comes_in_one_order_with_what_the_kernel_announces", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let (mut sender, udevd) = (Sender::open().unwrap(), Udevd::new());
        let mut buffer = [0; BUFFER];
        for n in 0..20u64 {
            sender.inject(&card(n as usize)).unwrap();
            udevd.broadcast(format!("ACTION=add\0DEVPATH=/d{n}\0SEQNUM={n}\0MODALIAS=x:{n}\0").as_bytes());
        }
        for n in 0..20 {
            let Received::Kernel(datagram) = netlink.receive(&mut buffer) else { panic!("not the kernel's") };
            assert_eq!(parse(datagram).unwrap().devpath, format!("/devices/pci0/card{n}").as_bytes());
            let Received::Udev(datagram) = netlink.receive(&mut buffer) else { panic!("not udev's") };
            let uevent = parse_udev(datagram).unwrap();
            assert_eq!((uevent.seqnum, uevent.modalias), (n, Some(format!("x:{n}").as_bytes())));
        }
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
        assert_eq!(netlink.counters(), Counters { kernel: 20, udev: 20, ..Counters::default() });
    });
}

#[test]
fn what_looks_like_udevs_and_was_not_broadcast_to_its_group_is_a_strangers() {
    alone("what_looks_like_udevs_and_was_not_broadcast_to_its_group_is_a_strangers", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let port = getsockname::<NetlinkAddr>(netlink.as_raw_fd()).unwrap().pid();
        let udevd = Udevd::new();
        let mut buffer = [0; BUFFER];
        for to in [NetlinkAddr::new(port, 0), NetlinkAddr::new(0, 1)] {
            udevd.send(b"ACTION=add\0DEVPATH=/d\0SEQNUM=1\0MODALIAS=x\0", &to);
            assert!(matches!(netlink.receive(&mut buffer), Received::Stranger));
        }
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
    });
}

#[test]
fn a_buffer_that_is_larger_than_the_system_grants_now_stays_so() {
    alone("a_buffer_that_is_larger_than_the_system_grants_now_stays_so", || {
        let socket = both_groups(SockType::Raw);
        setsockopt(&socket, sockopt::RcvBuf, &ROOM).unwrap();
        let before = getsockopt(&socket, sockopt::RcvBuf).unwrap() / 2;
        // As much as there is, less, and more than anybody gets.
        for wanted in [before, before / 2, 1 << 40] {
            let fd = socket.try_clone().unwrap();
            assert!(Netlink::adopt(fd, wanted).unwrap().receive_buffer().unwrap() >= before, "{wanted}");
        }
    });
}

#[test]
fn a_socket_handed_over_keeps_its_queue_and_gains_what_it_lacks() {
    alone("a_socket_handed_over_keeps_its_queue_and_gains_what_it_lacks", || {
        for kind in [SockType::Raw, SockType::Datagram] {
            let socket = both_groups(kind);
            let mut sender = Sender::open().unwrap();
            sender.inject(&card(1)).unwrap();
            let mut netlink = Netlink::adopt(socket, ROOM).unwrap();
            let status = OFlag::from_bits_retain(fcntl(&netlink, FcntlArg::F_GETFL).unwrap());
            assert!(status.contains(OFlag::O_NONBLOCK));
            let flags = FdFlag::from_bits_retain(fcntl(&netlink, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let mut buffer = [0; BUFFER];
            assert!(matches!(netlink.receive(&mut buffer), Received::Kernel(_)));
            assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
            assert_eq!(netlink.receive_buffer().unwrap(), ROOM);
        }
        let large = Netlink::open(ROOM).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&large).try_clone_to_owned().unwrap();
        let adopted = Netlink::adopt(fd, ROOM / 2).unwrap();
        assert_eq!(adopted.receive_buffer().unwrap(), ROOM, "it never shrinks");
    });
}

#[test]
fn without_privilege_the_buffer_is_what_the_system_allows() {
    alone("without_privilege_the_buffer_is_what_the_system_allows", || {
        let Ok(allowed) = fs::read_to_string("/proc/sys/net/core/rmem_max") else {
            return eprintln!("net.core.rmem_max cannot be read from this namespace");
        };
        let allowed: usize = allowed.trim().parse().unwrap();
        let netlink = Netlink::open(allowed * 4).unwrap();
        assert_eq!(netlink.receive_buffer().unwrap(), allowed);
    });
}

#[test]
fn a_sender_learns_why_the_kernel_refuses() {
    let name = "a_sender_learns_why_the_kernel_refuses";
    if depth().as_deref() == Some("2") {
        let error = Sender::open().unwrap().inject(&card(0)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    alone(name, || {
        let mut sender = Sender::open().unwrap();
        let mut long = card(0);
        long.extend_from_slice(format!("X={}\0", "x".repeat(2000)).as_bytes());
        assert_eq!(sender.inject(&long).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        sender.inject(&card(0)).unwrap();
        // A further user namespace has no say over this network namespace.
        again(name, &["--user"], "2");
    });
}

#[test]
fn a_captured_storm_injected_again_differs_in_seqnum_alone() {
    alone("a_captured_storm_injected_again_differs_in_seqnum_alone", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let mut sender = Sender::open().unwrap();
        (0..20).for_each(|n| sender.inject(&card(n)).unwrap());
        let mut buffer = [0; BUFFER];
        let mut capture = Writer::new(Vec::new()).unwrap();
        while let Received::Kernel(datagram) = netlink.receive(&mut buffer) {
            capture.write(Duration::ZERO, datagram).unwrap();
        }
        let capture = capture.into_inner();
        let mut records = 0;
        for record in Reader::new(capture.as_slice()).unwrap() {
            let recorded = record.unwrap().datagram;
            sender.inject(&recorded).unwrap();
            let Received::Kernel(datagram) = netlink.receive(&mut buffer) else { panic!("no datagram") };
            let (mut one, mut other) = (parse(&recorded).unwrap(), parse(datagram).unwrap());
            assert!(one.seqnum < other.seqnum);
            (one.seqnum, other.seqnum) = (0, 0);
            assert_eq!(one, other);
            assert_eq!(datagram.windows(7).filter(|bytes| bytes == b"SEQNUM=").count(), 1);
            records += 1;
        }
        assert_eq!(records, 20);
    });
}
