// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Activation: a socket that a supervisor listens at before we do
//!
//! [`take`] finds the uevent socket that a supervisor handed over by the protocol of sd_listen_fds(3): LISTEN_PID
//! names this process, LISTEN_FDS counts descriptors from 3 on. What the kernel announced before addonce ran, or while it
//! was being replaced, waits in such a socket. Promises that a descriptor is used as what it is or refused by
//! its number ([`Netlink::adopt`]), and that no descriptor is inherited by what addonce runs.

use super::netlink::Netlink;
use super::sockopt;
use crate::fatal::Fatal;

/// The socket that was handed over, if one was. To be asked before anything is opened.
///
/// # Errors
/// [`Fatal::System`], naming the variable or the descriptor that makes no sense.
pub fn take(receive_buffer: usize) -> Result<Option<Netlink>, Fatal> {
    let refused = |error: std::io::Error| {
        Fatal::System(format!("what LISTEN_PID and LISTEN_FDS say of handed over sockets is wrong: {error}"))
    };
    // Sees to it that they are open, and closes them on exec.
    let mut given = sd_notify::listen_fds().map_err(refused)?;
    let Some(first) = given.next() else { return Ok(None) };
    let mut sockets = sockopt::claim(first..first + 1 + given.len() as i32).into_iter();
    let netlink = sockets.next().map(|socket| Netlink::adopt(socket, receive_buffer)).transpose()?;
    if netlink.is_some() && sockets.len() > 0 {
        return Err(Fatal::System(format!(
            "{} sockets were handed over, and one is wanted: the unit needs ListenNetlink=kobject-uevent 1 and no other",
            sockets.len() + 1
        )));
    }
    Ok(netlink)
}
