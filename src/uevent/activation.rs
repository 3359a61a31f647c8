// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets that a supervisor listened at before we ran, handed over as sd_listen_fds(3) has it: LISTEN_PID names this process,
//! LISTEN_FDS counts descriptors from 3 on.
//!
//! There may be two, told apart by what they are and not by their order: the uevent socket, which keeps what was announced before
//! addonce runs and while it is replaced, and the control socket, where clients wait meanwhile.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{SockaddrStorage, getsockname, getsockopt};

use super::netlink::Netlink;
use super::sockopt;
use crate::fatal::Fatal;

/// What was handed over.
#[derive(Debug, Default)]
pub struct Given {
    /// The uevent socket.
    pub netlink: Option<Netlink>,
    /// The control socket. Its name is the supervisor's.
    pub control: Option<UnixListener>,
}

/// The sockets that were handed over. To be asked before anything is opened, for descriptors go by their numbers. The error names the
/// variable or the descriptor that makes no sense.
pub fn take(socket: &Path) -> Result<Given, Fatal> {
    let mut given = Given::default();
    // Sees to it that they are open, and closes them on exec.
    let descriptors = sd_notify::listen_fds().map_err(|error| {
        Fatal::System(format!("what LISTEN_PID and LISTEN_FDS say of handed over sockets is wrong: {error}"))
    })?;
    for descriptor in sockopt::claim(descriptors) {
        let number = descriptor.as_raw_fd();
        adopt(&mut given, descriptor, socket).map_err(|why| {
            Fatal::System(format!(
                "file descriptor {number} was handed over and is of no use: {why}; wanted are \
                 ListenNetlink=kobject-uevent 3 and ListenStream={}, each once at the most",
                socket.display()
            ))
        })?;
    }
    Ok(given)
}

/// Takes over one of them. The error says why it is of no use.
fn adopt(given: &mut Given, descriptor: OwnedFd, socket: &Path) -> Result<(), String> {
    let said = |errno: Errno| errno.desc().to_owned();
    let address: SockaddrStorage = getsockname(descriptor.as_raw_fd()).map_err(said)?;
    let before = match address.as_unix_addr() {
        Some(_) if !getsockopt(&descriptor, AcceptConn).map_err(said)? => {
            return Err("it does not listen".into());
        }
        Some(address) => {
            let path = address.path().ok_or("it listens at no path")?;
            // /var/run is another name of /run.
            if path != socket && path.canonicalize().ok() != socket.canonicalize().ok() {
                return Err(format!("it listens at {}, and clients are to come to --socket", path.display()));
            }
            given.control.replace(descriptor.into()).is_some()
        }
        None => given.netlink.replace(Netlink::adopt(descriptor)?).is_some(),
    };
    if before { Err("it is the second of its kind".into()) } else { Ok(()) }
}
