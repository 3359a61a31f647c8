// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket through which the kernel and udevd speak, opened here or handed over by a supervisor.
//!
//! It is one socket in both multicast groups, so one drain is a drain of both; udevd's broadcast of an event may be here before the
//! kernel's. Nothing is believed that came from anybody else, nothing that went wrong passes uncounted, and no call waits.
//!
//! After [`Received::Overflow`] a caller has to go on until [`Received::Drained`]; one that stops earlier, to be fair to others, must
//! wake itself for the rest (docs/DESIGN.md, section 7).

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
    SockaddrStorage, UnixCredentials, bind, getsockname, getsockopt, recvmsg, setsockopt, socket,
    sockopt as option,
};

use super::sockopt;
use crate::fatal::Fatal;

/// The multicast group the kernel announces to.
const KERNEL_GROUP: u32 = 1;
/// The group that udevd announces to, for libudev's listeners; like the other, as a mask.
pub const UDEV_GROUP: u32 = 2;
/// The size for a receive buffer, in bytes: what fills it was longer. udevd's datagrams hold all properties of a device, and udevd
/// can send none that is longer than `net.core.wmem_default`, which is 208 KiB unless somebody has changed it.
pub const BUFFER: usize = 256 * 1024 + 1;
/// The largest receive buffer that may be asked for, in bytes: the kernel counts twice as much in an int.
const LARGEST: usize = i32::MAX as usize / 2;

/// What one call of [`Netlink::receive`] found.
#[derive(Debug)]
pub enum Received<'b> {
    /// A datagram of the kernel: [`message::parse`](super::message::parse) reads it.
    Kernel(&'b [u8]),
    /// A datagram of udevd: [`message::parse_udev`](super::message::parse_udev) reads it; and the PID of the worker that sent it.
    Udev(&'b [u8], i32),
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
    /// A supervisor opened it: events from before this process are in it.
    pub adopted: bool,
    /// What came so far.
    pub counters: Counters,
}

impl Netlink {
    /// Opens a socket with room for `receive_buffer` bytes of queued datagrams, the kernel's overhead included.
    /// Without the privilege to go beyond `net.core.rmem_max` it gets that much.
    pub fn open(receive_buffer: usize) -> Result<Netlink, Fatal> {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let protocol = SockProtocol::NetlinkKObjectUEvent;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            let size = receive_buffer.min(LARGEST);
            match setsockopt(&socket, option::RcvBufForce, &size) {
                Err(Errno::EPERM) => setsockopt(&socket, option::RcvBuf, &size)?,
                result => result?,
            }
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP | UDEV_GROUP))?;
            Self::new(socket, false)
        };
        open().map_err(|errno: Errno| {
            let way_out = match errno {
                Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
                    ": this kernel has no uevents (CONFIG_NET, CONFIG_UEVENT)"
                }
                Errno::EPERM | Errno::EACCES => {
                    ": is it forbidden by a sandbox (RestrictAddressFamilies=AF_NETLINK)?"
                }
                _ => "",
            };
            Fatal::System(format!("cannot listen for uevents: {}{way_out}", errno.desc()))
        })
    }

    /// Takes over a socket that a supervisor opened (`ListenNetlink=kobject-uevent 3`: the number is the mask of groups), with
    /// all that is queued in it. How large its buffer is was said by the supervisor. The error says why it is of no use.
    pub fn adopt(socket: OwnedFd) -> Result<Netlink, String> {
        let refused = |errno: Errno| errno.desc().to_owned();
        let bound: SockaddrStorage = getsockname(socket.as_raw_fd()).map_err(refused)?;
        let protocol = getsockopt(&socket, sockopt::Protocol).map_err(refused)?;
        let bound = bound.as_netlink_addr().filter(|_| protocol == libc::NETLINK_KOBJECT_UEVENT);
        let groups = bound.ok_or("it is no uevent socket")?.groups();
        for (group, whose) in [(KERNEL_GROUP, "the kernel's"), (UDEV_GROUP, "udev's")] {
            if groups & group == 0 {
                return Err(format!("it is not in {whose} group"));
            }
        }
        let take_over = || {
            let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
            fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            Self::new(socket, true)
        };
        take_over().map_err(refused)
    }

    fn new(socket: OwnedFd, adopted: bool) -> nix::Result<Self> {
        // Credentials go with what is queued already, too: the kernel keeps them with each datagram.
        setsockopt(&socket, option::PassCred, &true)?;
        Ok(Self { socket, adopted, counters: Counters::default() })
    }

    /// The next datagram, or why there is none. `buffer` wants [`BUFFER`] bytes.
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Received<'b> {
        let size = buffer.len();
        let (length, sender) = match receive(self.socket.as_raw_fd(), buffer) {
            Ok(datagram) => datagram,
            Err(Errno::EAGAIN) => return Received::Drained,
            Err(Errno::ENOBUFS) => {
                self.counters.overflows += 1;
                return Received::Overflow;
            }
            Err(errno) => return Received::Failed(errno.into()),
        };
        let (counter, received) = match sender {
            None => (&mut self.counters.strangers, Received::Stranger),
            Some(_) if length >= size => (&mut self.counters.truncated, Received::Truncated),
            Some(0) => (&mut self.counters.kernel, Received::Kernel(&buffer[..length])),
            Some(worker) => (&mut self.counters.udev, Received::Udev(&buffer[..length], worker)),
        };
        *counter += 1;
        received
    }

    /// How many datagrams the kernel dropped for want of room since the socket exists, adopted or not: exact,
    /// and wrapping. An error before Linux 4.12.
    pub fn drops(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.socket, sockopt::MemInfo)?[libc::SK_MEMINFO_DROPS as usize])
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The length of a datagram, and the PID of who sent it, 0 for the kernel; none where that is a stranger.
fn receive(socket: RawFd, buffer: &mut [u8]) -> nix::Result<(usize, Option<i32>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(UnixCredentials);
    let received = recvmsg::<NetlinkAddr>(socket, &mut parts, Some(&mut control), MsgFlags::empty())?;
    let of_root = |message| match message {
        ControlMessageOwned::ScmCredentials(sender) if sender.uid() == 0 => Some(sender.pid()),
        _ => None,
    };
    let sender = match received.address {
        // Nobody but the kernel has port 0: netlink_insert() gives it to no socket.
        Some(address) if address.pid() == 0 => Some(0),
        // A multicast needs CAP_NET_ADMIN over the network namespace; the credentials are the kernel's word, too.
        Some(address) if address.groups() == UDEV_GROUP => received.cmsgs()?.find_map(of_root),
        _ => None,
    };
    Ok((received.bytes, sender))
}
