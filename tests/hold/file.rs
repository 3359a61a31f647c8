// SPDX-License-Identifier: MIT OR Apache-2.0
//! The link `hold`: what udev sees of it, and the next daemon.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use addonce::daemon::hold_file::HoldFile;
use addonce::once::Time;

const NOW: Time = Duration::from_secs(1);

/// What udev's TEST says.
fn udev_sees(hold: &Path) -> bool {
    hold.join("io.addonce").exists()
}

/// A socket in a directory of its own, and the path of the link.
fn place() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let listener = UnixListener::bind(&socket).expect("bind");
    (directory, socket, listener)
}

#[test]
fn udev_sees_hold_for_as_long_as_it_is_published() {
    let (_directory, socket, _listener) = place();
    let hold = socket.with_file_name("hold");
    let (mut file, stale) = HoldFile::beside(&socket);
    assert_eq!(stale, None);
    file.publish(0, NOW).expect("published");
    assert!(udev_sees(&hold));
    file.unpublish();
    assert!(!udev_sees(&hold));
    file.publish(1, NOW).expect("published once more");
    assert!(udev_sees(&hold) && !socket.with_file_name("hold.released").is_symlink());
    file.forget();
    assert!(!hold.is_symlink());
    assert_eq!(HoldFile::beside(&socket).1, None);
}

#[test]
fn what_a_dead_daemon_leaves_is_seen_by_the_next_and_not_by_udev() {
    let (_directory, socket, _listener) = place();
    let hold = socket.with_file_name("hold");
    for (recoveries, is_released) in [(0, false), (2, false), (1, true)] {
        let (mut dead, _) = HoldFile::beside(&socket);
        dead.publish(recoveries, NOW).expect("published");
        if is_released {
            dead.unpublish();
        }
        drop(dead);
        assert!(!udev_sees(&hold), "the directory was closed with its process");
        let (mut next, stale) = HoldFile::beside(&socket);
        assert_eq!(stale, Some(recoveries));
        next.forget();
    }
}

#[test]
fn another_process_of_the_same_pid_does_not_make_it_true_again() {
    let (directory, socket, _listener) = place();
    let hold = socket.with_file_name("hold");
    let (mut file, _) = HoldFile::beside(&socket);
    file.publish(0, NOW).expect("published");
    let link = fs::read_link(&hold).expect("a link").to_string_lossy().into_owned();
    let (_, ours) = link.split_once("/fd/").expect("a descriptor");
    let (ours, _) = ours.split_once('/').expect("a name in a directory");
    // The other process has something else where we have the directory.
    for path in [directory.path().join(".."), "/dev".into(), "/dev/null".into()] {
        let theirs = File::open(path).expect("open");
        let link = link.replace(&format!("/fd/{ours}/"), &format!("/fd/{}/", theirs.as_raw_fd()));
        fs::remove_file(&hold).expect("remove");
        symlink(&link, &hold).expect("symlink");
        assert!(!udev_sees(&hold), "{link}");
        fs::remove_file(&hold).expect("remove");
        file.publish(0, NOW).expect("published");
    }
}

#[test]
fn whatever_else_has_its_name_udev_does_not_take_it_for_a_hold() {
    let (_directory, socket, _listener) = place();
    let hold = socket.with_file_name("hold");
    let (mut file, _) = HoldFile::beside(&socket);
    fs::write(&hold, "").expect("write");
    assert!(!udev_sees(&hold));
    file.publish(0, NOW).expect("in its place");
    assert!(udev_sees(&hold));
    file.forget();
    fs::create_dir_all(hold.join("precious")).expect("mkdir");
    assert!(!udev_sees(&hold) && file.publish(0, NOW).is_err());
    assert!(!udev_sees(&hold) && hold.join("precious").exists());
}

#[test]
fn where_nothing_can_be_published_nothing_is_left() {
    let (directory, socket, _listener) = place();
    let (mut file, _) = HoldFile::beside(&socket);
    drop(fs::remove_dir_all(directory.path()));
    assert!(file.publish(0, NOW).is_err());
    file.unpublish();
    file.forget();
    assert!(!socket.with_file_name("hold").is_symlink());
}
