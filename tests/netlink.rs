// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams and the socket that they come from. First how one is read; then the real socket: what a privileged process writes to
//! port 0 the kernel broadcasts to all listeners of its network namespace. Each of those tests has a namespace of its own and needs
//! no root.

mod common;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use addonce::uevent::capture::{Reader, Writer};
use addonce::uevent::message::{Action, parse, parse_udev};
use addonce::uevent::netlink::{BUFFER, Counters, Netlink, Received};
use common::namespace::{again, alone, depth};
use common::sender::Sender;
use common::socket::both_groups;
use common::udev::{Udevd, of_udev};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, getsockopt,
    sendto, setsockopt, sockopt,
};
use proptest::prelude::*;

const CPU: &[u8] = b"add@/devices/system/cpu/cpu3\0ACTION=add\0DEVPATH=/devices/system/cpu/cpu3\0\
    SUBSYSTEM=cpu\0MODALIAS=cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001\0SEQNUM=4711\0";

fn refused(datagram: &[u8], why: &str) {
    assert_eq!(parse(datagram), Err(why), "{}", datagram.escape_ascii());
}

#[test]
fn a_cpu_is_read_in_place() {
    let uevent = parse(CPU).unwrap();
    assert_eq!(uevent.action, Action::Add);
    assert_eq!(uevent.devpath, b"/devices/system/cpu/cpu3");
    assert!(uevent.modalias.unwrap().ends_with(b",0000,0001"));
    assert_eq!((uevent.seqnum, uevent.uuid.is_some(), uevent.module()), (4711, false, None));
}

#[test]
fn what_cannot_be_read_is_refused_by_its_fault() {
    refused(b"", "it does not end with a NUL byte");
    refused(b"add@/d", "it does not end with a NUL byte");
    refused(b"\0", "its header is neither ACTION@DEVPATH nor libudev's");
    refused(b"libudev\0\xfe\xed\xca\xfe\0", "its header is neither ACTION@DEVPATH nor libudev's");
    refused(b"add@/d\0DEVPATH=/d\0SEQNUM=1\0", "it has no ACTION");
    refused(b"add@/d\0ACTION=add\0SEQNUM=1\0", "it has no DEVPATH");
    refused(b"add@/d\0ACTION=add\0DEVPATH=/d\0", "it has no SEQNUM");
    for seqnum in ["", "-1", "1x", "18446744073709551616"] {
        let datagram = format!("add@/d\0ACTION=add\0DEVPATH=/d\0SEQNUM={seqnum}\0");
        refused(datagram.as_bytes(), "its SEQNUM is not a number of 64 bits");
    }
}

#[test]
fn a_synthetic_event_is_told_from_real_hardware_and_ours_from_others() {
    let asked = b"add@/d\0ACTION=add\0DEVPATH=/d\0SUBSYSTEM=mem\0SYNTH_UUID=0\0SEQNUM=1\0";
    let uevent = parse(asked).unwrap();
    assert_eq!((uevent.uuid.is_some(), uevent.uuid, uevent.argument), (true, Some(&b"0"[..]), None));
    let ours = b"change@/module/kernel\0ACTION=change\0DEVPATH=/module/kernel\0SYNTH_UUID=fe4d\0\
        SYNTH_ARG_ADDONCE=hold\0SEQNUM=1\0";
    let uevent = parse(ours).unwrap();
    assert_eq!((uevent.uuid, uevent.argument), (Some(&b"fe4d"[..]), Some(&b"hold"[..])));
}

#[test]
fn what_udevd_announces_has_the_modalias_that_its_rules_left() {
    let datagram = of_udev(
        b"ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0MODALIAS=pci:v1\0SEQNUM=7\0\
          USEC_INITIALIZED=1\0ID_MODEL=a=b\0",
    );
    let uevent = parse_udev(&datagram).unwrap();
    assert_eq!((uevent.action, uevent.devpath), (Action::Add, &b"/devices/x"[..]));
    assert_eq!((uevent.modalias, uevent.seqnum), (Some(&b"pci:v1"[..]), 7));
    let cleared = of_udev(b"ACTION=add\0DEVPATH=/devices/x\0MODALIAS=\0SEQNUM=8\0");
    assert_eq!(parse_udev(&cleared).unwrap().modalias, None, "ENV{{MODALIAS}}=\"\"");
}

#[test]
fn what_libudev_would_not_take_is_refused() {
    let whole = of_udev(b"ACTION=add\0DEVPATH=/devices/x\0SEQNUM=7\0");
    for length in 0..whole.len() {
        assert!(parse_udev(&whole[..length]).is_err(), "{length}");
    }
    for (at, byte) in [(0, b'L'), (8, 0xff), (19, 0xff), (23, 0xff)] {
        let mut wrong = whole.clone();
        wrong[at] = byte;
        assert_eq!(parse_udev(&wrong), Err("its header is neither ACTION@DEVPATH nor libudev's"), "{at}");
    }
    assert_eq!(parse_udev(&of_udev(b"ACTION=add\0SEQNUM=7\0")), Err("it has no DEVPATH"));
}

#[test]
fn a_module_is_named_only_by_its_own_place() {
    let name = |path: &str| {
        let text = format!("remove@{path}\0ACTION=remove\0DEVPATH={path}\0SUBSYSTEM=module\0SEQNUM=1\0");
        let uevent = parse(text.as_bytes()).unwrap();
        assert_eq!(uevent.action, Action::Remove);
        uevent.module().map(<[u8]>::to_vec)
    };
    assert_eq!(name("/module/nfit"), Some(b"nfit".to_vec()));
    assert_eq!(name("/module/"), None);
    assert_eq!(name("/module/nfit/holders"), None);
    assert_eq!(name("/bus/nfit"), None);
}

#[test]
fn bytes_that_are_no_text_and_strings_that_mean_nothing_are_taken() {
    let odd = b"add@/d\0ACTION=add\0\0ACTIONS\0DEVPATH=/d\0=x\0MODALIAS=\xff\xfe[*\0SEQNUM=1\0SEQNUM=2\0";
    let uevent = parse(odd).unwrap();
    assert_eq!((uevent.modalias, uevent.seqnum), (Some(&b"\xff\xfe[*"[..]), 2));
    let empty = b"add@/d\0ACTION=add\0DEVPATH=/d\0MODALIAS=\0SEQNUM=1\0";
    assert_eq!(parse(empty).unwrap().modalias, None);
}

#[test]
fn an_acpi_device_asks_by_both_of_its_modaliases() {
    let acpi = b"add@/d\0ACTION=add\0DEVPATH=/d\0MODALIAS=acpi:PRP0001:\0MODALIAS=of:NfooT(null)Cbar\0\
        SEQNUM=1\0";
    let all: Vec<_> = parse(acpi).unwrap().modaliases().collect();
    assert_eq!(all, [&b"acpi:PRP0001:"[..], b"of:NfooT(null)Cbar"]);
    let same = b"add@/d\0ACTION=add\0DEVPATH=/d\0MODALIAS=a\0MODALIAS=a\0SEQNUM=1\0";
    assert_eq!(parse(same).unwrap().modaliases().count(), 1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = parse_udev(&of_udev(&bytes));
        let _ = parse_udev(&[b"libudev\0\xfe\xed\xca\xfe", &bytes[..]].concat());
        bytes.splice(0..0, CPU.iter().copied());
        bytes.push(0);
        let _ = parse(&bytes);
    }
}

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
        assert_eq!(netlink.counters, Counters { kernel: 1000, ..Counters::default() });
        assert_eq!(netlink.drops().unwrap(), 0);
    });
}

#[test]
fn strangers_and_oversized_datagrams_are_counted_and_not_shown() {
    alone("strangers_and_oversized_datagrams_are_counted_and_not_shown", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let port = getsockname::<NetlinkAddr>(netlink.as_fd().as_raw_fd()).unwrap().pid();
        let forger = both_groups(SockType::Raw);
        let forged = |len: usize| {
            let mut datagram = card(0);
            datagram.resize(len, 0);
            sendto(forger.as_raw_fd(), &datagram, &NetlinkAddr::new(port, 0), MsgFlags::empty()).unwrap();
        };
        forged(100);
        forged(1000);
        let mut sender = Sender::open().unwrap();
        sender.inject(&card(1)).unwrap();
        sender.inject(&card(2)).unwrap();
        let (mut buffer, mut small) = ([0; BUFFER], [0; 64]);
        assert!(matches!(netlink.receive(&mut buffer), Received::Stranger));
        assert!(matches!(netlink.receive(&mut small), Received::Stranger));
        assert!(matches!(netlink.receive(&mut small), Received::Truncated));
        assert!(matches!(netlink.receive(&mut buffer), Received::Kernel(_)));
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
        assert_eq!(
            netlink.counters,
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
            let Received::Udev(datagram, _) = netlink.receive(&mut buffer) else { panic!("not udev's") };
            let uevent = parse_udev(datagram).unwrap();
            assert_eq!((uevent.seqnum, uevent.modalias), (n, Some(format!("x:{n}").as_bytes())));
        }
        assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
        assert_eq!(netlink.counters, Counters { kernel: 20, udev: 20, ..Counters::default() });
    });
}

#[test]
fn what_looks_like_udevs_and_was_not_broadcast_to_its_group_is_a_strangers() {
    alone("what_looks_like_udevs_and_was_not_broadcast_to_its_group_is_a_strangers", || {
        let mut netlink = Netlink::open(ROOM).unwrap();
        let port = getsockname::<NetlinkAddr>(netlink.as_fd().as_raw_fd()).unwrap().pid();
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
fn a_socket_handed_over_keeps_its_queue_and_its_buffer_and_gains_what_it_lacks() {
    alone("a_socket_handed_over_keeps_its_queue_and_its_buffer_and_gains_what_it_lacks", || {
        for kind in [SockType::Raw, SockType::Datagram] {
            let socket = both_groups(kind);
            let mut sender = Sender::open().unwrap();
            sender.inject(&card(1)).unwrap();
            setsockopt(&socket, sockopt::RcvBuf, &ROOM).unwrap();
            let mut netlink = Netlink::adopt(socket).unwrap();
            let status = OFlag::from_bits_retain(fcntl(&netlink, FcntlArg::F_GETFL).unwrap());
            assert!(status.contains(OFlag::O_NONBLOCK));
            let flags = FdFlag::from_bits_retain(fcntl(&netlink, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let mut buffer = [0; BUFFER];
            assert!(matches!(netlink.receive(&mut buffer), Received::Kernel(_)));
            assert!(matches!(netlink.receive(&mut buffer), Received::Drained));
            assert_eq!(granted(&netlink), ROOM);
        }
    });
}

/// The room of a socket, in the unit that it is asked for in: the kernel counts twice as much.
fn granted(socket: &impl AsFd) -> usize {
    getsockopt(socket, sockopt::RcvBuf).unwrap() / 2
}

#[test]
fn without_privilege_the_buffer_is_what_the_system_allows() {
    alone("without_privilege_the_buffer_is_what_the_system_allows", || {
        // net.core.rmem_max, which older kernels do not show in a network namespace. The kernel answers twice what was set.
        let plain = both_groups(SockType::Raw);
        setsockopt(&plain, sockopt::RcvBuf, &(i32::MAX as usize / 2)).unwrap();
        let allowed = granted(&plain);
        let netlink = Netlink::open(allowed * 4).unwrap();
        assert_eq!(granted(&netlink), allowed);
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
        let mut text = Vec::new();
        let mut capture = Writer::new(&mut text).unwrap();
        while let Received::Kernel(datagram) = netlink.receive(&mut buffer) {
            capture.write(Duration::ZERO, datagram).unwrap();
        }
        let mut records = 0;
        for record in Reader::new(text.as_slice()).unwrap() {
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

#[test]
fn what_is_no_uevent_socket_or_lacks_a_group_is_refused() {
    let refused = |fd: OwnedFd| Netlink::adopt(fd).unwrap_err();
    let (datagrams, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    assert!(refused(datagrams.into()).contains("no uevent socket"));
    assert!(refused(fs::File::open("/dev/null").unwrap().into()).contains("non-socket"));
    let socket = |groups| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket =
            nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).unwrap();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).unwrap();
        socket
    };
    assert!(refused(socket(0)).contains("not in the kernel's group"));
    assert!(refused(socket(1)).contains("not in udev's group"));
}

#[test]
fn the_buffer_granted_is_told_in_the_unit_it_was_asked_in() {
    let socket = Netlink::open(16 * 1024).unwrap();
    assert_eq!(granted(&socket), 16 * 1024);
}

#[test]
fn a_buffer_beyond_what_the_kernel_can_count_is_a_large_one_and_no_small_one() {
    for size in [1 << 31, 1 << 32, usize::MAX] {
        assert!(granted(&Netlink::open(size).unwrap()) > 64 * 1024, "{size}");
    }
}
