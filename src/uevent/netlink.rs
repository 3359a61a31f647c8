// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Netlink: the socket the kernel speaks through
//!
//! [`Netlink`] owns one socket of the kernel's uevent group, opened here or handed over by a supervisor, and
//! gives one datagram at a time. It promises that nothing is believed that the kernel did not send (`nl_pid`
//! 0 cannot be forged), that nothing which went wrong passes unnamed or uncounted, and that no call waits.
//! Its queue is bounded by the receive buffer; the counters are all it remembers.
//!
//! The contract with the caller: after [`Received::Overflow`] **go on** until [`Received::Drained`]. The
//! kernel queues nothing new until the queue is empty, and an edge-triggered poll has told all it will tell.
//! Then scan sysfs: what was dropped is still there. [`Netlink::drops`] says how much it was. A caller that
//! stops early to be fair to others must wake itself for the rest.
//!
//! [`Sender`] speaks as the kernel does, where that is allowed: it writes to port 0 and the kernel broadcasts
//! what it got, with a SEQNUM. Tests, floods and replays use it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, getsockopt,
    recvfrom, sendto, setsockopt, socket, sockopt as option,
};

use super::{filter, message, sockopt};
use crate::fatal::Fatal;

/// The multicast group the kernel announces to; udevd announces to group 2.
const KERNEL_GROUP: u32 = 1;
/// One more than the longest datagram: what fills this buffer was longer.
pub const BUFFER: usize = message::LONGEST + 1;

/// What one call of [`Netlink::receive`] found.
#[derive(Debug)]
pub enum Received<'b> {
    /// A datagram from the kernel.
    Datagram(&'b [u8]),
    /// A datagram of another process. It is counted and not to be looked at.
    Stranger,
    /// A datagram that did not fit the buffer: MSG_TRUNC in all but name. Counted.
    Truncated,
    /// The kernel dropped datagrams. It says so once, before what is still queued: go on reading.
    Overflow,
    /// The queue is empty.
    Drained,
    /// The socket is of no use any more.
    Failed(io::Error),
}

/// What came through the socket, since it was opened or adopted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams of the kernel.
    pub datagrams: u64,
    /// Datagrams of others.
    pub strangers: u64,
    /// Datagrams too long for the buffer.
    pub truncated: u64,
    /// Overflows told by the kernel; each may stand for many drops.
    pub overflows: u64,
}

/// A socket in the kernel's uevent group.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    counters: Counters,
}

impl Netlink {
    /// Opens a socket with room for `receive_buffer` bytes of queued datagrams, the kernel's overhead included.
    /// Without the privilege to go beyond `net.core.rmem_max` it gets that much: see
    /// [`Netlink::receive_buffer`].
    pub fn open(receive_buffer: usize) -> Result<Netlink, Fatal> {
        let refused = |errno| refused("cannot listen for uevents", errno);
        let socket = open_socket().map_err(refused)?;
        grow(&socket, receive_buffer).map_err(refused)?;
        // Before bind, so that nothing unwanted is queued.
        attach_filter(&socket);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).map_err(refused)?;
        Ok(Netlink { socket, counters: Counters::default() })
    }

    /// Takes over a socket that a supervisor opened (`ListenNetlink=kobject-uevent 1`), with all that is
    /// queued in it: RAW or DGRAM make no difference to netlink. Its buffer grows, and never shrinks.
    pub fn adopt(socket: OwnedFd, receive_buffer: usize) -> Result<Netlink, Fatal> {
        let fd = socket.as_raw_fd();
        let unfit = |why: &str| {
            Fatal::System(format!(
                "file descriptor {fd} is no socket for uevents: {why}; the unit needs \
                 ListenNetlink=kobject-uevent 1"
            ))
        };
        match sockopt::kind(socket.as_fd()) {
            Ok((libc::AF_NETLINK, libc::NETLINK_KOBJECT_UEVENT)) => {}
            Ok((family, protocol)) => return Err(unfit(&format!("family {family}, protocol {protocol}"))),
            Err(error) => return Err(unfit(&error.to_string())),
        }
        let bound: NetlinkAddr = getsockname(fd).map_err(|errno| unfit(errno.desc()))?;
        if bound.groups() & KERNEL_GROUP == 0 {
            return Err(unfit("it is not in the kernel's group"));
        }
        let refused = |errno| refused(&format!("cannot use the socket in file descriptor {fd}"), errno);
        let flags = fcntl(&socket, FcntlArg::F_GETFL).map_err(refused)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&socket, FcntlArg::F_SETFL(flags)).map_err(refused)?;
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(refused)?;
        if granted(&socket).map_err(refused)? < receive_buffer {
            grow(&socket, receive_buffer).map_err(refused)?;
        }
        attach_filter(&socket);
        Ok(Netlink { socket, counters: Counters::default() })
    }

    /// The next datagram, or why there is none. `buffer` wants [`BUFFER`] bytes.
    #[inline]
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Received<'b> {
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), buffer) {
                Ok((len, Some(sender))) if sender.pid() == 0 => {
                    if len >= buffer.len() {
                        self.counters.truncated += 1;
                        return Received::Truncated;
                    }
                    self.counters.datagrams += 1;
                    return Received::Datagram(&buffer[..len]);
                }
                Ok(_) => {
                    self.counters.strangers += 1;
                    return Received::Stranger;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Drained,
                Err(Errno::ENOBUFS) => {
                    self.counters.overflows += 1;
                    return Received::Overflow;
                }
                Err(errno) => return Received::Failed(errno.into()),
            }
        }
    }

    /// What came so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many datagrams the kernel dropped for want of room since the socket exists, adopted or not: exact,
    /// and wrapping. What the filter sheds is not among them.
    pub fn drops(&self) -> io::Result<u32> {
        sockopt::drops(self.as_fd())
    }

    /// The room for queued datagrams, in the unit of [`Netlink::open`]: SO_RCVBUF reads twice as much.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        Ok(granted(&self.socket)?)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Speaks as the kernel does: needs CAP_SYS_ADMIN in the user namespace that owns the network namespace, which
/// `unshare -Urn` gives to anybody.
#[derive(Debug)]
pub struct Sender {
    socket: OwnedFd,
    frame: Vec<u8>,
}

impl Sender {
    /// Opens a sender for the current network namespace.
    pub fn open() -> Result<Sender, Fatal> {
        let socket = open_socket().map_err(|errno| refused("cannot send uevents", errno))?;
        Ok(Sender { socket, frame: Vec::new() })
    }

    /// Has the kernel broadcast one datagram to all listeners of the network namespace. The kernel puts a SEQNUM
    /// behind it, so one that is there is left out; with its frame the datagram may have 2048 bytes
    /// (InvalidInput otherwise). PermissionDenied where this process may not speak.
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

/// `NLMSG_HDRLEN`.
const NLMSG_HEADER: usize = 16;

fn open_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent)
}

fn grow(socket: &OwnedFd, receive_buffer: usize) -> nix::Result<()> {
    match setsockopt(socket, option::RcvBufForce, &receive_buffer) {
        Err(Errno::EPERM) => setsockopt(socket, option::RcvBuf, &receive_buffer),
        result => result,
    }
}

fn granted(socket: &OwnedFd) -> nix::Result<usize> {
    Ok(getsockopt(socket, option::RcvBuf)? / 2)
}

/// A kernel without the filter sends more than we need, and nothing else changes.
fn attach_filter(socket: &OwnedFd) {
    if let Err(error) = filter::attach(socket.as_fd()) {
        log::debug!("cannot filter uevents in the kernel: {error}");
    }
}

fn refused(what: &str, errno: Errno) -> Fatal {
    let way_out = match errno {
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
            ": this kernel has no uevents (CONFIG_NET, CONFIG_UEVENT)"
        }
        Errno::EPERM | Errno::EACCES => {
            ": is it forbidden by a sandbox (RestrictAddressFamilies=AF_NETLINK)?"
        }
        _ => "",
    };
    Fatal::System(format!("{what}: {}{way_out}", errno.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_uevent_socket_is_refused_with_its_number_and_the_way_out() {
        let pair = std::os::unix::net::UnixDatagram::pair().unwrap();
        let fd = OwnedFd::from(pair.0);
        let number = fd.as_raw_fd();
        let message = Netlink::adopt(fd, 0).unwrap_err().to_string();
        assert!(message.contains(&format!("descriptor {number} ")), "{message}");
        assert!(message.contains("ListenNetlink=kobject-uevent 1"), "{message}");
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(Netlink::adopt(file, 0).is_err());
    }

    #[test]
    fn a_uevent_socket_outside_the_kernel_group_is_refused() {
        let message = Netlink::adopt(open_socket().unwrap(), 0).unwrap_err().to_string();
        assert!(message.contains("not in the kernel's group"), "{message}");
    }

    #[test]
    fn the_buffer_granted_is_told_in_the_unit_it_was_asked_in() {
        let socket = Netlink::open(16 * 1024).unwrap();
        assert_eq!(socket.receive_buffer().unwrap(), 16 * 1024);
    }
}
