// SPDX-License-Identifier: MIT OR Apache-2.0
//! Speaks as udevd does to libudev's listeners: a multicast to group 2, which takes CAP_NET_ADMIN over the network namespace.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};

/// Who broadcasts.
pub struct Udevd(OwnedFd);

impl Udevd {
    /// In the current network namespace.
    pub fn new() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        Self(
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent).unwrap(),
        )
    }

    /// Tells group 2, as udevd does, of a device with these properties.
    pub fn broadcast(&self, properties: &[u8]) {
        self.send(properties, &NetlinkAddr::new(0, 2));
    }

    /// Sends such a datagram elsewhere.
    pub fn send(&self, properties: &[u8], to: &NetlinkAddr) {
        sendto(self.0.as_raw_fd(), &of_udev(properties), to, MsgFlags::empty()).unwrap();
    }
}

/// A device's properties behind the header of systemd's device-monitor.c.
pub fn of_udev(properties: &[u8]) -> Vec<u8> {
    let mut datagram = b"libudev\0\xfe\xed\xca\xfe".to_vec();
    for word in [40, 40, properties.len() as u32, 0, 0, 0, 0] {
        datagram.extend_from_slice(&u32::to_ne_bytes(word));
    }
    datagram.extend_from_slice(properties);
    datagram
}
