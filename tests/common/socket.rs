// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bare listener in both uevent groups, as a supervisor would open it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};

/// A socket of this kind in both uevent groups.
pub fn both_groups(kind: SockType) -> OwnedFd {
    let socket =
        socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkKObjectUEvent)
            .unwrap();
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 3)).unwrap();
    socket
}
