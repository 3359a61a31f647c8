// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is going on, for everybody: the reply to `Status`, and the file `status.json`, which who may not connect reads.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::events::Events;
use crate::control::STATUS;
use crate::control::json::{self, millis};
use crate::control::process::Process;
use crate::control::server::{ConnectionStats, Server};
use crate::once::{Scheduler, Stats, Time};
use crate::uevent::netlink::Counters;

/// Between two writes of the file.
const PAUSE: Duration = Duration::from_secs(1);

/// What the loop knows and the scheduler does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    let (connections, (clients, limit)) = (server.stats(), server.clients());
    let running: Vec<_> = core
        .running()
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
        "loading": core.loading(),
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
        "clients": {
            "now": clients,
            "limit": limit,
            "strangers": connections.strangers,
            "slow": connections.slow,
        },
    })
}

/// What is remembered as failed, as `Failures` replies it.
pub fn failures(core: &Scheduler, now: Time) -> Vec<Value> {
    core.failures().map(|(module, failure)| json::failure(module, failure, now)).collect()
}

/// The file. It is replaced as a whole, at most once in [`PAUSE`] and only when something has changed, and removed at the end;
/// that of a daemon which was killed names a process that is gone.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    written: Option<Content>,
    not_before: Time,
    /// Writing failed, and that was said.
    fails: bool,
}

/// What has to change for the file to be written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    stats: Stats,
    changes: u64,
    loading: usize,
    situation: Situation,
    counters: Counters,
    losses: (u64, u32),
    clients: (usize, usize),
    connections: ConnectionStats,
}

impl Content {
    /// As it is now.
    pub fn of(core: &Scheduler, events: &Events, server: &Server, situation: &Situation) -> Self {
        Self {
            stats: *core.stats(),
            changes: core.changes(),
            loading: core.loading(),
            situation: *situation,
            counters: events.counters(),
            losses: events.losses(),
            clients: server.clients(),
            connections: server.stats(),
        }
    }
}

impl StatusFile {
    /// The file beside this socket.
    pub fn beside(socket: &Path) -> Self {
        Self { path: socket.with_file_name(STATUS), written: None, not_before: Time::ZERO, fails: false }
    }

    /// When it is to be written, with this content.
    pub fn due(&self, content: &Content) -> Option<Time> {
        (self.written.as_ref() != Some(content)).then_some(self.not_before)
    }

    /// Writes it, with these replies to `Status` and `Failures`.
    pub fn write(&mut self, content: Content, status: Value, failures: Vec<Value>, now: Time) {
        self.written = Some(content);
        self.not_before = now + PAUSE;
        let text = Process::this().map(|Process { pid, started }| {
            json!({ "pid": pid, "started": started, "status": status, "failures": failures })
        });
        let result = text.and_then(|text| replace(&self.path, format!("{text}\n").as_bytes()));
        let failed = result.is_err();
        match result {
            Err(error) if !self.fails => log::warn!("{}: {error}", self.path.display()),
            _ => {}
        }
        self.fails = failed;
    }
}

/// In one step: who reads finds the old file or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(text)?;
    std::fs::rename(&new, path)
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        if self.written.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_written_when_something_changed_and_once_a_second_at_most() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut file = StatusFile::beside(&directory.path().join("io.addonce"));
        let mut content = Content::default();
        assert_eq!(file.due(&content), Some(Time::ZERO));
        let now = Duration::from_secs(5);
        file.write(content, json!({}), Vec::new(), now);
        assert_eq!(file.due(&content), None);
        content.connections.strangers = 1;
        assert_eq!(file.due(&content), Some(now + PAUSE));
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
