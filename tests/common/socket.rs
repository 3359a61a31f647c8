// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Socket: a bare listener in the kernel's group, as a supervisor would open it

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};

/// A socket of this kind in the kernel's uevent group.
pub fn kernel_group(kind: SockType) -> OwnedFd {
    let socket =
        socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkKObjectUEvent)
            .unwrap();
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1)).unwrap();
    socket
}
