// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket as clients see it: connecting, and message after message, each ended by a NUL byte. addonce-load is made of this file,
//! too (client/src/main.rs), so it knows nothing of addonce.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The longest message: some thousands of failures.
const LONGEST: usize = 4 << 20;

/// Connects; where the queue of connections is full it waits until the deadline, and the error is WouldBlock. What is sent later
/// waits no longer either: unix(7), net/unix/af_unix.c `unix_wait_for_peer()`.
pub fn reach(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let left = i64::try_from(left(deadline)?.as_micros()).unwrap_or(i64::MAX);
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::microseconds(left))?;
    let address = UnixAddr::new(path)?;
    while let Err(errno) = connect(stream.as_raw_fd(), &address) {
        if errno != Errno::EINTR {
            return Err(errno.into());
        }
    }
    Ok(stream.into())
}

/// The next message. What was `read` beyond the last one comes first, and what is read beyond this one is left there.
pub fn receive(
    stream: &mut UnixStream,
    read: &mut Vec<u8>,
    deadline: Option<Instant>,
) -> io::Result<Vec<u8>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(message) = take(read) {
            return Ok(message);
        }
        if read.len() > LONGEST {
            return Err(io::Error::other(format!("a message is longer than {LONGEST} bytes")));
        }
        stream.set_read_timeout(deadline.map(left).transpose()?)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(size) => read.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the first message, without its NUL, out of what has come in.
pub fn take(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let rest = input.split_off(input.iter().position(|byte| *byte == 0)? + 1);
    let mut message = std::mem::replace(input, rest);
    message.pop();
    Some(message)
}

/// The time that is left; an error where there is none.
pub fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
