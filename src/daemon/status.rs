// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is going on, for everybody: the reply to `Status`, and the file `status.json`, which who may not connect reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::events::Events;
use super::state_file::replace;
use crate::control::STATUS;
use crate::control::json::{self, millis};
use crate::control::process::Process;
use crate::control::server::Server;
use crate::once::{Scheduler, Time};

/// Between two writes of the file.
const PAUSE: Duration = Duration::from_secs(1);

/// What the loop knows and the scheduler does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation {
    /// Requests come from udev, not from the kernel and /sys.
    pub with_udev: bool,
    /// Nothing is loaded.
    pub dry_run: bool,
    /// Uevents that udev has not finished yet.
    pub outstanding: usize,
    /// Since when there is a hold.
    pub held_since: Option<Time>,
}

/// The reply to `Status`.
pub fn status(
    core: &Scheduler,
    events: &Events,
    server: &Server,
    situation: &Situation,
    uptime: Time,
    now: Time,
) -> Value {
    let stats = core.stats();
    let counters = events.counters();
    let (malformed, drops) = events.losses();
    let running: Vec<_> = core
        .loads()
        .filter_map(|load| Some((load.module, load.running?)))
        .map(|(name, since)| json!({ "module": &**name, "ms": millis(now.saturating_sub(since)) }))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": millis(uptime),
        "with_udev": situation.with_udev,
        "dry_run": situation.dry_run,
        "disabled": core.is_disabled(),
        "settled": core.is_settled(),
        "outstanding": situation.outstanding,
        "held_ms": situation.held_since.map(|since| millis(now.saturating_sub(since))),
        "loading": core.loads().count(),
        "running": running,
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
        "uevents": {
            "read": counters.kernel, "from_udev": counters.udev,
            "strangers": counters.strangers,
            "truncated": counters.truncated,
            "malformed": malformed,
            "overflows": counters.overflows,
            "drops": drops,
        },
        "clients": server.stats(),
    })
}

/// What is remembered as failed, as `Failures` replies it.
pub fn failures(core: &Scheduler, now: Time) -> Vec<Value> {
    core.failures().map(|(module, failure)| json::failure(module, failure, now)).collect()
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
    pub fn write(&mut self, status: Value, failures: Vec<Value>, now: Time) {
        (self.stale, self.not_before) = (false, now + PAUSE);
        let text = Process::this().map(|Process { pid, started }| {
            json!({ "pid": pid, "started": started, "status": status, "failures": failures })
        });
        let result = text.and_then(|text| replace(&self.path, 0o644, format!("{text}\n").as_bytes()));
        let failed = result.is_err();
        match result {
            Err(error) if !self.fails => log::warn!("{}: {error}", self.path.display()),
            _ => {}
        }
        self.fails = failed;
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_written_after_a_turn_and_once_a_second_at_most() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut file = StatusFile::beside(&directory.path().join("io.addonce"));
        let now = Duration::from_secs(5);
        assert!(file.turn(now));
        file.write(json!({}), Vec::new(), now);
        assert_eq!(file.next_deadline(), None, "nothing to wake up for");
        assert!(!file.turn(now + PAUSE / 2));
        assert_eq!(file.next_deadline(), Some(now + PAUSE), "it is not forgotten");
        assert!(file.turn(now + PAUSE));
        let path = directory.path().join(STATUS);
        let mode = std::fs::metadata(&path).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "everybody may read it");
        let text = std::fs::read(&path).expect("read");
        let text: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(text["pid"], std::process::id());
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 0, "nothing is left");
    }
}
