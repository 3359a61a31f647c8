// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Notify: what a service manager is told
//!
//! Owns the conversation of sd_notify(3) with whoever set NOTIFY_SOCKET: that we listen, that we read everything anew, that
//! we stop; a line of status; and a sign of life from the loop itself, at half of what WATCHDOG_USEC allows, so that a loop
//! that hangs is noticed. Where the variables are not set there is no [`Notifier`], and no time for the loop to wake up at.
//!
//! Bounded: a status at most every [`PAUSE`] and only where it changed; no call waits for the manager. What it has no room
//! for is said again where it matters, up to [`OWED`] messages.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::escape::escape;
use crate::once::Scheduler;
use crate::once::Time;

/// Between two lines of status.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries to say what has to be said.
const AGAIN: Duration = Duration::from_millis(100);
/// So many messages wait for the manager to have room.
const OWED: usize = 16;

/// The service manager's ear.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
    owed: VecDeque<String>,
    again: Time,
    /// Between two signs of life.
    beat: Option<Duration>,
    next_beat: Time,
    said: Option<Standing>,
    next_status: Time,
    warned: bool,
}

/// What the status tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    live: u64,
    failed: usize,
    loading: usize,
}

impl Notifier {
    /// The manager that started us, if it wants to be told.
    pub fn from_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let variable = |name: &str| std::env::var(name).ok();
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|_| ours);
        match Self::new(&name, micros.map(Duration::from_micros)) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={}: {error}: nobody is told of us", escape(name.as_bytes()));
                None
            }
        }
    }

    /// The manager at this address: a path, or `@` and a name that is no path. It wants a sign of life before `watchdog`
    /// has passed.
    fn new(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let manager = match name.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor @ and a name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let beat = watchdog.map(|watchdog| watchdog / 2).filter(|beat| !beat.is_zero());
        let (owed, said, warned) = Default::default();
        let [again, next_beat, next_status] = [Time::ZERO; 3];
        Ok(Self { socket, manager, owed, again, beat, next_beat, said, next_status, warned })
    }

    /// We listen.
    pub fn ready(&mut self) {
        self.owe("READY=1\n".into());
    }

    /// We read everything anew; [`Notifier::ready`] follows.
    pub fn reloading(&mut self) {
        // A manager compares this with when it asked: CLOCK_MONOTONIC, which every kernel has.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has CLOCK_MONOTONIC");
        self.owe(format!("RELOADING=1\nMONOTONIC_USEC={}\n", Duration::from(now).as_micros()));
    }

    /// We were told to stop.
    pub fn stopping(&mut self) {
        self.owe("STOPPING=1\n".into());
    }

    /// Says what is due; `loading` loads are running.
    pub fn tick(&mut self, core: &Scheduler, loading: usize, now: Time) {
        if self.again <= now {
            self.pay(now);
        }
        if let Some(beat) = self.beat.filter(|_| self.next_beat <= now) {
            self.next_beat = now + beat;
            self.say("WATCHDOG=1\n");
        }
        let standing = Standing::of(core, loading);
        if self.said != Some(standing) && self.next_status <= now {
            (self.said, self.next_status) = (Some(standing), now + PAUSE);
            let Standing { live, failed, loading } = standing;
            self.say(&format!("STATUS={live} modules live, {failed} failed, {loading} loading\n"));
        }
    }

    /// When something is due next.
    pub fn deadline(&self, core: &Scheduler, loading: usize) -> Option<Time> {
        let owed = (!self.owed.is_empty()).then_some(self.again);
        let status = (self.said != Some(Standing::of(core, loading))).then_some(self.next_status);
        [owed, self.beat.map(|_| self.next_beat), status].into_iter().flatten().min()
    }

    /// Has something said for certain, and in this order.
    fn owe(&mut self, message: String) {
        if self.owed.len() < OWED {
            self.owed.push_back(message);
        }
        self.pay(self.again);
    }

    fn pay(&mut self, now: Time) {
        while let Some(message) = self.owed.pop_front() {
            if !self.say(&message) {
                self.owed.push_front(message);
                self.again = now + AGAIN;
                return;
            }
        }
    }

    /// Says something, unless there is no room for it. A manager that is gone is one line in the log, once.
    fn say(&mut self, message: &str) -> bool {
        match self.socket.send_to_addr(message.as_bytes(), &self.manager) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                log::warn!("the service manager cannot be told of us: {error}");
            }
            _ => {}
        }
        true
    }
}

impl Standing {
    fn of(core: &Scheduler, loading: usize) -> Self {
        Self { live: core.stats().live, failed: core.failures().count(), loading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::once::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    struct Manager {
        socket: UnixDatagram,
        _directory: tempfile::TempDir,
        notifier: Notifier,
        core: Scheduler,
    }

    impl Manager {
        fn new(watchdog: Option<Duration>) -> Self {
            let directory = tempfile::tempdir().expect("tempdir");
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).expect("bind");
            socket.set_nonblocking(true).expect("nonblocking");
            let notifier = Notifier::new(path.as_os_str(), watchdog).expect("an address");
            let core = Scheduler::new(Limits::default());
            Self { socket, _directory: directory, notifier, core }
        }

        fn heard(&self) -> Vec<String> {
            let mut bytes = [0; 256];
            let mut next = || self.socket.recv(&mut bytes).ok().map(|read| bytes[..read].to_vec());
            std::iter::from_fn(&mut next).map(|bytes| String::from_utf8(bytes).expect("text")).collect()
        }

        fn tick(&mut self, loading: usize, now: Time) -> Vec<String> {
            self.notifier.tick(&self.core, loading, now);
            self.heard()
        }
    }

    #[test]
    fn the_status_is_told_when_it_changed_and_once_a_second_at_most() {
        let mut manager = Manager::new(None);
        assert_eq!(manager.tick(0, SECOND), ["STATUS=0 modules live, 0 failed, 0 loading\n"]);
        assert_eq!(manager.notifier.deadline(&manager.core, 0), None, "nothing to wake up for");
        assert!(manager.tick(2, SECOND * 3 / 2).is_empty());
        assert_eq!(manager.notifier.deadline(&manager.core, 2), Some(2 * SECOND), "but it is not forgotten");
        assert_eq!(manager.tick(2, 2 * SECOND), ["STATUS=0 modules live, 0 failed, 2 loading\n"]);
        assert!(manager.tick(2, 9 * SECOND).is_empty());
    }

    #[test]
    fn a_sign_of_life_comes_at_half_of_what_the_watchdog_allows_and_only_if_it_is_asked_for() {
        let mut manager = Manager::new(Some(10 * SECOND));
        assert_eq!(manager.tick(0, SECOND)[0], "WATCHDOG=1\n");
        assert_eq!(manager.notifier.deadline(&manager.core, 0), Some(6 * SECOND));
        assert!(manager.tick(0, 5 * SECOND).is_empty());
        assert_eq!(manager.tick(0, 6 * SECOND), ["WATCHDOG=1\n"]);
    }

    #[test]
    fn what_matters_is_said_in_order_and_again_where_there_was_no_room() {
        let mut manager = Manager::new(None);
        let flood = UnixDatagram::unbound().expect("a socket");
        flood.set_nonblocking(true).expect("nonblocking");
        while flood.send_to_addr(b"x", &manager.notifier.manager).is_ok() {}
        manager.notifier.reloading();
        manager.notifier.ready();
        manager.heard();
        let said = manager.tick(0, SECOND);
        assert!(said[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said:?}");
        assert_eq!(said[1], "READY=1\n");
        (0..2 * OWED).for_each(|_| manager.notifier.stopping());
        assert!(manager.notifier.owed.len() <= OWED);
    }

    #[test]
    fn a_manager_that_is_gone_holds_nobody_up() {
        let mut manager = Manager::new(None);
        std::fs::remove_file(manager.notifier.manager.as_pathname().expect("a path")).expect("remove");
        manager.notifier.ready();
        assert_eq!(manager.notifier.deadline(&manager.core, 0), Some(Time::ZERO), "the status only");
        assert!(Notifier::new(OsStr::new("vsock:2:9"), None).is_err());
    }
}
