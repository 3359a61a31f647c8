// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Known: what is left to udev's program, and what of it is believed
//!
//! The file `known` beside the socket: who leaves what in it, and what makes it void. That `addonce-load` goes by it is
//! client/tests/asks.rs' part.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use addonce::daemon::handover::Handover;
use addonce::daemon::{Daemon, Settings, Until};
use addonce::kmod::{DryRun, Known, Resolver, Tree};
use addonce::once::Limits;
use common::devices::Devices;
use common::fixture::Fixture;
use common::namespace::{alone, as_user};
use common::running::addonce;

/// Until what was changed last is no longer young enough to change again unseen.
const A_TICK: Duration = Duration::from_millis(30);

struct Place {
    fixture: Fixture,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { fixture: Fixture::build("semantics"), directory: tempfile::tempdir().expect("tempdir") };
        std::thread::sleep(A_TICK);
        place
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("io.addonce")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("known")
    }

    fn known(&self) -> Known {
        Known::beside(&self.socket(), &self.fixture.tree().stamp()).expect("nothing is being changed")
    }

    fn modules(&self, alias: &[u8]) -> Option<Vec<String>> {
        self.known().modules(alias)
    }

    /// As udev runs it for a device.
    fn load(&self, alias: &str) -> Command {
        let mut command = addonce();
        command.args(["load", alias, "--socket"]).arg(self.socket()).args(self.fixture.flags());
        command.env("ACTION", "add").env("DEVPATH", "/devices/cpu0");
        command
    }

    /// A daemon's life: it looks at these devices, and goes.
    fn scan(&self, devices: &Devices, dry_run: bool) {
        let sysfs = devices.path().to_owned();
        let tree = Tree { sysfs, ..self.fixture.tree() };
        let settings = Settings {
            limits: Limits::default(),
            netlink: None,
            control: None,
            handover: Some(Handover::beside(&self.socket(), dry_run)),
            loader: Arc::new(DryRun),
            scan: true,
            landing_time: Duration::ZERO,
            notifier: None,
            until: Until::Quiet(Duration::ZERO),
        };
        let daemon = Daemon::new(Resolver::open(tree).expect("a tree"), settings).expect("a daemon");
        daemon.run().expect("an end");
    }
}

fn set_live(devices: &Devices, module: &str) {
    let directory = devices.path().join("module").join(module);
    fs::create_dir_all(&directory).expect("mkdir");
    fs::write(directory.join("initstate"), "live\n").expect("write");
}

#[test]
fn what_was_left_is_found_whatever_bytes_it_is_made_of() {
    alone("what_was_left_is_found_whatever_bytes_it_is_made_of", || {
        let place = Place::new();
        let aliases: [&[u8]; 4] = [b"a b\tc\n", b"\\x\xff\0", b"a", b"a b"];
        place.known().add(aliases.map(|alias| (alias, vec!["one", "two"]))).expect("written");
        for alias in aliases {
            assert_eq!(place.modules(alias), Some(vec!["one".into(), "two".into()]), "{alias:?}");
        }
        assert_eq!(place.modules(b"b"), None);
        place.known().add([(&b"b"[..], vec![]), (b"c", vec!["../x"]), (b"d", vec!["x y"])]).expect("written");
        assert_eq!(place.modules(b"b"), Some(vec![]), "that there is no module is known, too");
        assert_eq!((place.modules(b"c"), place.modules(b"d")), (None, None), "no names of modules");
        assert!(place.modules(b"a").is_some(), "what was there before stays");
    });
}

/// What is done, and how to what.
type Case<T> = (&'static str, fn(&T));

#[test]
fn what_it_was_made_from_has_changed_and_it_is_void() {
    alone("what_it_was_made_from_has_changed_and_it_is_void", || {
        let changes: [Case<Fixture>; 5] = [
            ("a blacklist", |fixture| {
                fs::write(fixture.config().join("b.conf"), "blacklist x\n").expect("write")
            }),
            ("an edit in place", |fixture| {
                fs::write(fixture.config().join("b.conf"), "blacklist y\n").expect("write")
            }),
            ("a file gone", |fixture| fs::remove_file(fixture.config().join("b.conf")).expect("remove")),
            ("depmod", Fixture::depmod),
            ("an index gone", |fixture| {
                fs::remove_file(fixture.directory().join("modules.alias.bin")).expect("remove");
            }),
        ];
        let place = Place::new();
        for (what, change) in changes {
            place.known().add([(&b"a"[..], vec!["one"])]).expect("written");
            assert!(place.modules(b"a").is_some());
            change(&place.fixture);
            std::thread::sleep(A_TICK);
            assert_eq!(place.modules(b"a"), None, "{what}");
        }
    });
}

#[test]
fn nothing_is_known_while_the_configuration_is_being_changed() {
    alone("nothing_is_known_while_the_configuration_is_being_changed", || {
        let place = Place::new();
        // More than once, because a busy machine may let the moment pass.
        let unknown = |_| {
            fs::write(place.fixture.config().join("b.conf"), "").expect("write");
            Known::beside(&place.socket(), &place.fixture.tree().stamp()).is_none()
        };
        assert!((0..20).any(unknown));
    });
}

#[test]
fn a_file_that_is_not_what_was_left_is_not_believed() {
    alone("a_file_that_is_not_what_was_left_is_not_believed", || {
        let place = Place::new();
        let cases: [Case<Path>; 7] = [
            ("garbage", |path| fs::write(path, b"\xff\0garbage").expect("write")),
            ("another format", |path| {
                let text = fs::read_to_string(path).expect("a file");
                fs::write(path, text.replacen("known-1", "known-2", 1)).expect("write");
            }),
            ("a heap", |path| {
                let text = fs::read_to_string(path).expect("a file");
                fs::write(path, text + &"\n".repeat(256 << 10)).expect("write");
            }),
            ("anybody's", |path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod")
            }),
            ("a link", |path| {
                let aside = path.with_extension("aside");
                fs::rename(path, &aside).expect("rename");
                symlink(aside, path).expect("symlink");
            }),
            ("a pipe", |path| {
                fs::remove_file(path).expect("remove");
                nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
            }),
            ("nothing", |path| fs::remove_file(path).expect("remove")),
        ];
        for (what, put) in cases {
            place.known().add([(&b"a"[..], vec!["one"])]).expect("written");
            assert!(place.modules(b"a").is_some(), "before {what}");
            put(&place.file());
            assert_eq!(place.modules(b"a"), None, "{what}");
        }
    });
}

#[test]
fn a_strangers_file_is_not_believed() {
    as_user("a_strangers_file_is_not_believed", || {
        let place = Place::new();
        place.known().add([(&b"a"[..], vec!["one"])]).expect("written");
        assert_eq!(place.modules(b"a"), None);
    });
}

#[test]
fn it_grows_to_its_bounds_and_keeps_what_came_last() {
    alone("it_grows_to_its_bounds_and_keeps_what_came_last", || {
        let place = Place::new();
        let lines = || fs::read_to_string(place.file()).expect("a file").lines().count() - 1;
        for n in 0..1100 {
            place.known().add([(format!("a{n}").as_bytes(), vec!["one"])]).expect("written");
        }
        assert_eq!(lines(), 1024);
        assert!(place.modules(b"a1099").is_some() && place.modules(b"a0").is_none());
        let long: Vec<Vec<u8>> = (0..200).map(|n| format!("{n}{}", "x".repeat(2000)).into_bytes()).collect();
        place.known().add(long.iter().map(|alias| (&**alias, vec!["one"]))).expect("written");
        assert!(fs::metadata(place.file()).expect("a file").len() <= 256 << 10);
        assert!(place.modules(&long[0]).is_some() && place.modules(&long[199]).is_none());
    });
}

#[test]
fn who_serves_leaves_what_is_live_and_a_dry_run_nothing() {
    alone("who_serves_leaves_what_is_live_and_a_dry_run_nothing", || {
        let place = Place::new();
        let devices = Devices::none();
        for (n, alias) in [&b"fxbus:topmost"[..], b"fxcfg2", b"fx_gone", b"fxblack:x", b"fx_builtin", b"none"]
            .iter()
            .enumerate()
        {
            devices.appear(n, alias);
        }
        for module in ["fx_top", "fx_twin", "fx_base"] {
            set_live(&devices, module);
        }
        place.scan(&devices, true);
        assert!(!place.file().exists());
        place.scan(&devices, false);
        let text = fs::read_to_string(place.file()).expect("a file");
        // fx_black is blacklisted: it is not to be loaded, so nobody waits for it.
        assert_eq!(place.modules(b"fxbus:topmost"), Some(vec!["fx_top".into(), "fx_twin".into()]), "{text}");
        assert_eq!(place.modules(b"fxcfg2"), Some(vec!["fx_base".into(), "fx_twin".into()]), "{text}");
        for nothing_to_load in [&b"fx_builtin"[..], b"fxblack:x", b"none"] {
            assert_eq!(place.modules(nothing_to_load), Some(vec![]), "{text}");
        }
        assert_eq!(place.modules(b"fx_gone"), None, "it failed: {text}");
    });
}

#[test]
fn who_is_run_for_a_device_and_has_nothing_to_load_leaves_that() {
    alone("who_is_run_for_a_device_and_has_nothing_to_load_leaves_that", || {
        let place = Place::new();
        assert!(place.load("fx_builtin").env_remove("DEVPATH").status().expect("addonce").success());
        assert!(place.load("fx_builtin").arg("--dry-run").status().expect("addonce").success());
        assert!(!place.file().exists(), "typed by hand, or a dry run");
        assert!(place.load("fx_builtin").status().expect("addonce").success());
        assert_eq!(place.load("fx_none").status().expect("addonce").code(), Some(1));
        assert_eq!(place.modules(b"fx_builtin"), Some(vec![]));
        assert_eq!(place.modules(b"fx_none"), Some(vec![]));
    });
}
