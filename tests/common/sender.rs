// SPDX-License-Identifier: MIT OR Apache-2.0
//! Speaks as the kernel does: needs CAP_SYS_ADMIN in the user namespace that owns the network namespace, which `unshare -Urn` gives
//! to anybody.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

/// `NLMSG_HDRLEN`.
const NLMSG_HEADER: usize = 16;

/// Has the kernel broadcast what it is given.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    frame: Vec<u8>,
}

impl Sender {
    /// Opens a sender for the current network namespace.
    pub fn open() -> io::Result<Sender> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        Ok(Sender { socket, frame: Vec::new() })
    }

    /// Has the kernel broadcast one datagram to all listeners of the network namespace. The kernel puts a SEQNUM
    /// behind it, so one that is there is left out; with its frame the datagram may have 2048 bytes.
    ///
    /// InvalidInput where it is longer, PermissionDenied where this process may not speak.
    pub fn inject(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.frame.clear();
        self.frame.resize(NLMSG_HEADER, 0);
        for field in datagram.split_inclusive(|&byte| byte == 0) {
            if !field.starts_with(b"SEQNUM=") {
                self.frame.extend_from_slice(field);
            }
        }
        // struct nlmsghdr: u32 length, u16 type, u16 flags; sequence and port stay 0.
        let length = u32::try_from(self.frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.frame[0..4].copy_from_slice(&length.to_ne_bytes());
        self.frame[4..6].copy_from_slice(&(libc::NLMSG_MIN_TYPE as u16).to_ne_bytes());
        self.frame[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        let fd = self.socket.as_raw_fd();
        while let Err(errno) = sendto(fd, &self.frame, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
            if errno != Errno::EINTR {
                return Err(errno.into());
            }
        }
        // The kernel works inside sendto and answers only errors: a NLMSG_ERROR whose first word is -errno.
        let mut answer = [0u8; 64];
        match recvfrom::<NetlinkAddr>(fd, &mut answer) {
            Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
            Ok((len, _)) => match answer[..len].get(NLMSG_HEADER..).and_then(<[u8]>::first_chunk::<4>) {
                Some(word) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(*word).wrapping_neg())),
                None => Err(io::Error::other("the kernel's answer makes no sense")),
            },
        }
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
