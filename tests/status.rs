// SPDX-License-Identifier: MIT OR Apache-2.0
//! What others are told of the daemon, and how often: the file for everybody, the sign of life for the service manager.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use addonce::control::STATUS;
use addonce::daemon::notify::Notifier;
use addonce::daemon::status::{PAUSE, StatusFile};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_file_is_written_after_a_turn_and_once_a_second_at_most() {
    assert_eq!(PAUSE, SECOND);
    let directory = tempfile::tempdir().expect("tempdir");
    let mut file = StatusFile::beside(&directory.path().join("io.addonce"));
    let now = 5 * SECOND;
    assert!(file.turn(now));
    file.write(&json!({}), &[], now);
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

#[test]
fn a_sign_of_life_is_due_at_half_of_what_the_watchdog_allows_and_only_if_it_is_asked_for() {
    let mut notifier = Notifier::new(Some(10 * SECOND));
    notifier.beat(SECOND);
    assert_eq!(notifier.deadline(), Some(6 * SECOND));
    notifier.beat(6 * SECOND);
    assert_eq!(notifier.deadline(), Some(11 * SECOND));
    assert_eq!(Notifier::new(None).deadline(), None, "nothing to wake up for");
}
