// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket through which the kernel and udevd speak, opened here or handed over by a supervisor.
//!
//! It is one socket in both multicast groups, so one drain is a drain of both. The order of the two is not certain: the kernel gives
//! an event to one socket after the other, and udevd's broadcast of it may be here first. Nothing is believed that came from anybody else, nothing that went wrong passes uncounted, and no call waits.
//!
//! After [`Received::Overflow`] a caller has to go on until [`Received::Drained`]: the kernel queues nothing new until the
//! queue is empty, and an edge-triggered poll has told all that it will tell. A caller that stops early to be fair to others
//! must wake itself for the rest.
//!
//! [`Sender`] has the kernel broadcast what it is given, where that is allowed: replays and tests use it.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
    UnixCredentials, bind, getsockname, getsockopt, recvfrom, recvmsg, sendto, setsockopt, socket,
    sockopt as option,
};

use super::{filter, sockopt};
use crate::fatal::Fatal;

/// The multicast group the kernel announces to.
const KERNEL_GROUP: u32 = 1;
/// The group that udevd announces to, for libudev's listeners.
const UDEV_GROUP: u32 = 2;
/// The size for a receive buffer, in bytes: what fills it was longer. udevd's datagrams hold all properties of a device; its own
/// listeners took 8 KiB at most until systemd 248.
pub const BUFFER: usize = 64 * 1024 + 1;
/// The largest receive buffer that may be asked for, in bytes: the kernel counts twice as much in an int.
pub const LARGEST: usize = i32::MAX as usize / 2;

/// What one call of [`Netlink::receive`] found.
#[derive(Debug)]
pub enum Received<'b> {
    /// A datagram of the kernel: [`message::parse`](super::message::parse) reads it.
    Kernel(&'b [u8]),
    /// A datagram of udevd: [`message::parse_udev`](super::message::parse_udev) reads it.
    Udev(&'b [u8]),
    /// A datagram of another process. It is counted and not to be looked at.
    Stranger,
    /// A datagram that did not fit the buffer. Counted.
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
    pub kernel: u64,
    /// Datagrams of udevd.
    pub udev: u64,
    /// Datagrams of others.
    pub strangers: u64,
    /// Datagrams too long for the buffer.
    pub truncated: u64,
    /// Overflows told by the kernel; each may stand for many drops.
    pub overflows: u64,
}

/// A socket in both uevent groups.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    adopted: bool,
    counters: Counters,
}

impl Netlink {
    /// Opens a socket with room for `receive_buffer` bytes of queued datagrams, the kernel's overhead included.
    /// Without the privilege to go beyond `net.core.rmem_max` it gets that much: see [`Netlink::receive_buffer`].
    ///
    /// # Errors
    /// [`Fatal::System`] with what the system says.
    pub fn open(receive_buffer: usize) -> Result<Netlink, Fatal> {
        let refused = |errno| refused("cannot listen for uevents", errno);
        let socket = open_socket().map_err(refused)?;
        set_receive_buffer(&socket, receive_buffer).map_err(refused)?;
        // Before bind, so that nothing unwanted is queued.
        attach_filter(&socket);
        setsockopt(&socket, option::PassCred, &true).map_err(refused)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP | UDEV_GROUP)).map_err(refused)?;
        Ok(Netlink { socket, adopted: false, counters: Counters::default() })
    }

    /// Takes over a socket that a supervisor opened (`ListenNetlink=kobject-uevent 3`: the number is the mask of groups), with
    /// all that is queued in it. Its buffer may grow, and never shrinks.
    ///
    /// # Errors
    /// [`Fatal::System`] where it is another kind of socket, or lacks one of the groups.
    pub fn adopt(socket: OwnedFd, receive_buffer: usize) -> Result<Netlink, Fatal> {
        let fd = socket.as_raw_fd();
        let unfit = |why: &str| {
            Fatal::System(format!(
                "file descriptor {fd} is no socket for uevents: {why}; the unit needs \
                 ListenNetlink=kobject-uevent 3"
            ))
        };
        match sockopt::kind(socket.as_fd()) {
            Ok((libc::AF_NETLINK, libc::NETLINK_KOBJECT_UEVENT)) => {}
            Ok((family, protocol)) => return Err(unfit(&format!("family {family}, protocol {protocol}"))),
            Err(error) => return Err(unfit(&error.to_string())),
        }
        let bound: NetlinkAddr = getsockname(fd).map_err(|errno| unfit(errno.desc()))?;
        for (group, whose) in [(KERNEL_GROUP, "the kernel's"), (UDEV_GROUP, "udev's")] {
            if bound.groups() & group == 0 {
                return Err(unfit(&format!("it is not in {whose} group")));
            }
        }
        let refused = |errno| refused(&format!("cannot use the socket in file descriptor {fd}"), errno);
        let flags = fcntl(&socket, FcntlArg::F_GETFL).map_err(refused)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&socket, FcntlArg::F_SETFL(flags)).map_err(refused)?;
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(refused)?;
        // Credentials go with what is queued already, too: the kernel keeps them with each datagram.
        setsockopt(&socket, option::PassCred, &true).map_err(refused)?;
        grow(&socket, receive_buffer).map_err(refused)?;
        attach_filter(&socket);
        Ok(Netlink { socket, adopted: true, counters: Counters::default() })
    }

    /// The next datagram, or why there is none. `buffer` wants [`BUFFER`] bytes.
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Received<'b> {
        let size = buffer.len();
        let (length, sender) = loop {
            match receive(self.socket.as_raw_fd(), buffer) {
                Ok(datagram) => break datagram,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Drained,
                Err(Errno::ENOBUFS) => {
                    self.counters.overflows += 1;
                    return Received::Overflow;
                }
                Err(errno) => return Received::Failed(errno.into()),
            }
        };
        match sender {
            Origin::Stranger => {
                self.counters.strangers += 1;
                Received::Stranger
            }
            _ if length >= size => {
                self.counters.truncated += 1;
                Received::Truncated
            }
            Origin::Kernel => {
                self.counters.kernel += 1;
                Received::Kernel(&buffer[..length])
            }
            Origin::Udev => {
                self.counters.udev += 1;
                Received::Udev(&buffer[..length])
            }
        }
    }

    /// What came so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether a supervisor opened it: events from before this process are in it.
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// How many datagrams the kernel dropped for want of room since the socket exists, adopted or not: exact,
    /// and wrapping. What the filter sheds is not among them.
    ///
    /// # Errors
    /// What the system says: SO_MEMINFO is there since Linux 4.12.
    pub fn drops(&self) -> io::Result<u32> {
        sockopt::drops(self.as_fd())
    }

    /// The room for queued datagrams, in the unit of [`Netlink::open`]: SO_RCVBUF reads twice as much.
    ///
    /// # Errors
    /// What the system says.
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

/// Who sent a datagram.
enum Origin {
    Kernel,
    Udev,
    Stranger,
}

fn receive(socket: RawFd, buffer: &mut [u8]) -> nix::Result<(usize, Origin)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(UnixCredentials);
    let received = recvmsg::<NetlinkAddr>(socket, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let address = received.address;
    let sent = match address {
        // Nobody but the kernel has port 0: netlink_insert() gives it to no socket.
        Some(address) if address.pid() == 0 => Origin::Kernel,
        // A multicast needs CAP_NET_ADMIN over the network namespace; the credentials are the kernel's word, too.
        Some(address) if address.groups() == UDEV_GROUP => {
            let root = received.cmsgs()?.any(|message| {
                matches!(message, ControlMessageOwned::ScmCredentials(credentials) if credentials.uid() == 0)
            });
            if root { Origin::Udev } else { Origin::Stranger }
        }
        _ => Origin::Stranger,
    };
    Ok((received.bytes, sent))
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
    ///
    /// # Errors
    /// [`Fatal::System`] with what the system says.
    pub fn open() -> Result<Sender, Fatal> {
        let socket = open_socket().map_err(|errno| refused("cannot send uevents", errno))?;
        Ok(Sender { socket, frame: Vec::new() })
    }

    /// Has the kernel broadcast one datagram to all listeners of the network namespace. The kernel puts a SEQNUM
    /// behind it, so one that is there is left out; with its frame the datagram may have 2048 bytes.
    ///
    /// # Errors
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

/// `NLMSG_HDRLEN`.
const NLMSG_HEADER: usize = 16;

fn open_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent)
}

fn set_receive_buffer(socket: &OwnedFd, size: usize) -> nix::Result<()> {
    let size = size.min(LARGEST);
    match setsockopt(socket, option::RcvBufForce, &size) {
        Err(Errno::EPERM) => setsockopt(socket, option::RcvBuf, &size),
        result => result,
    }
}

/// Without privilege SO_RCVBUF takes no more than `net.core.rmem_max`, and sets that even where there was more room before: so
/// a socket without a past shows what would be granted.
fn grow(socket: &OwnedFd, size: usize) -> nix::Result<()> {
    let probe = open_socket()?;
    set_receive_buffer(&probe, size)?;
    if granted(&probe)? > granted(socket)? { set_receive_buffer(socket, size) } else { Ok(()) }
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
        assert!(message.contains("ListenNetlink=kobject-uevent 3"), "{message}");
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(Netlink::adopt(file, 0).is_err());
    }

    #[test]
    fn a_uevent_socket_that_lacks_a_group_is_refused() {
        let message = Netlink::adopt(open_socket().unwrap(), 0).unwrap_err().to_string();
        assert!(message.contains("not in the kernel's group"), "{message}");
        let socket = open_socket().unwrap();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).unwrap();
        let message = Netlink::adopt(socket, 0).unwrap_err().to_string();
        assert!(message.contains("not in udev's group"), "{message}");
    }

    #[test]
    fn the_buffer_granted_is_told_in_the_unit_it_was_asked_in() {
        let socket = Netlink::open(16 * 1024).unwrap();
        assert_eq!(socket.receive_buffer().unwrap(), 16 * 1024);
    }

    #[test]
    fn a_buffer_beyond_what_the_kernel_can_count_is_a_large_one_and_no_small_one() {
        for size in [1 << 31, 1 << 32, usize::MAX] {
            assert!(Netlink::open(size).unwrap().receive_buffer().unwrap() > 64 * 1024, "{size}");
        }
    }
}
