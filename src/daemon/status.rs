// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is going on, for everybody: the reply to `Status`, and the file `status.json`, which who may not connect reads.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::state_file::{StateFile, write};
use super::{Daemon, clock};
use crate::control::STATUS;
use crate::control::json::{self, millis};
use crate::control::process::Process;
use crate::escape::escape;
use crate::once::{Limits, Scheduler, Time};

/// Between two writes of the file.
pub const PAUSE: Duration = Duration::from_secs(1);

impl Daemon {
    /// The reply to `Status`.
    pub(super) fn status(&self, now: Time) -> Value {
        let (core, events) = (&self.core, &self.events);
        let stats = core.stats();
        let counters = events.netlink.as_ref().map(|netlink| netlink.counters).unwrap_or_default();
        let since = |then: Time| millis(now.saturating_sub(then));
        let loading = |name: &str, began| json!({ "module": name, "ms": since(began) });
        let (mut running, mut waiting) = (Vec::new(), Vec::new());
        for load in core.loads() {
            match load.running.or(load.coming) {
                Some(began) => running.push(loading(load.module, began)),
                None => waiting.push(loading(load.module, load.since)),
            }
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "kernel_version": self.resolver.tree.kernel,
            "modules": escape(self.resolver.tree.directory().as_os_str().as_bytes()),
            "on_demand": self.shutdown.linger.is_some(),
            "began_ms": self.clients.as_ref().map(|clients| millis(clients.began)),
            "uptime_ms": self.clients.as_ref().map(|clients| since(clients.began)),
            "with_udev": events.udev,
            "dry_run": self.loads.loader.dry_run,
            "disabled": core.disabled,
            "settled": self.is_settled(),
            "outstanding": self.outstanding(),
            "held_ms": self.hold.as_ref().and_then(|(_, file)| file.held.as_ref()).map(|(_, then)| since(*then)),
            "loading": core.loads().count(),
            "running": running,
            "waiting": waiting,
            "requests": stats.requests,
            "no_module": stats.no_module,
            "duplicates": {
                "live": stats.duplicates_live,
                "loading": stats.duplicates_loading,
                "failed": stats.duplicates_failed,
            },
            "retries": stats.retries,
            "attempts": stats.attempts,
            "live": stats.live,
            "failed": stats.failed,
            "remembered": core.failures().count(),
            "kernel": self.clients.as_ref().map(|clients| clients.requests.stats()),
            "uevents": {
                "read": counters.kernel, "from_udev": counters.udev,
                "strangers": counters.strangers,
                "truncated": counters.truncated,
                "malformed": events.malformed,
                "overflows": counters.overflows,
                "drops": events.drops,
            },
            "clients": self.clients.as_ref().map(|clients| clients.server.stats()),
        })
    }

    /// After a turn of the loop: says to who waits that we live, and writes what everybody may read, if that is due. Whether it was.
    pub(super) fn write_status(&mut self, now: Time) -> bool {
        let Some(clients) = &mut self.clients else { return false };
        clients.server.beat(now);
        if !clients.status_file.turn(now) {
            return false;
        }
        let (status, failures) = (self.status(now), failures(&self.core, now));
        self.clients.iter_mut().for_each(|clients| clients.status_file.write(&status, &failures, now));
        true
    }
}

/// What is remembered as failed, as `Failures` replies it.
pub(super) fn failures(core: &Scheduler, now: Time) -> Vec<Value> {
    core.failures().map(|(module, failure)| json::failure(module, failure, now)).collect()
}

/// The same of the last daemon at this socket, from what it has left; none for who may not know.
pub fn left(socket: &Path) -> Option<Vec<Value>> {
    let snapshot = StateFile::beside(socket, false).ok()?.read().ok()??;
    let now = clock();
    Some(failures(&Scheduler::restore(Limits::default(), snapshot, now), now))
}

/// The file. It is replaced as a whole after a turn of the loop, at most once in [`PAUSE`], and removed at the end; that of a daemon
/// which was killed names a process that is gone.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    /// There was a turn since it was written.
    stale: bool,
    not_before: Time,
    /// Writing failed, and that was said.
    fails: bool,
}

impl StatusFile {
    /// The file beside this socket.
    pub fn beside(socket: &Path) -> Self {
        Self { path: socket.with_file_name(STATUS), stale: false, not_before: Time::ZERO, fails: false }
    }

    /// There was a turn of the loop. Whether the file is to be written now.
    pub fn turn(&mut self, now: Time) -> bool {
        self.stale = true;
        self.not_before <= now
    }

    /// When it is to be written if there is no turn until then.
    pub fn next_deadline(&self) -> Option<Time> {
        self.stale.then_some(self.not_before)
    }

    /// Writes it, with these replies to `Status` and `Failures`.
    pub fn write(&mut self, status: &Value, failures: &[Value], now: Time) {
        (self.stale, self.not_before) = (false, now + PAUSE);
        let text = Process::this().map(|Process { pid, started }| {
            let text = json!({ "pid": pid, "started": started, "status": status, "failures": failures });
            format!("{text}\n").into_bytes()
        });
        write(&self.path, 0o644, text, &mut self.fails);
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
