// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing stale: whatever is done to indexes and configuration is told at once, and the next request is answered by it.

mod common;

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use addonce::kmod::Resolver;
use addonce::kmod::stamp::Stamp;
use addonce::kmod::watch::{News, Watch};
use addonce::once::{
    Action, Limits, LoadError, Modules, Name, Origin, Outcome, Request, Scheduler, Stage, Time,
};
use common::fixture::Fixture;
use common::namespace::{again, alone, depth};
use common::running::{Running, landed};
use common::sender::Sender;

/// A machine with modules and configuration, below a directory of its own.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().expect("tempdir") };
        machine.index();
        fs::create_dir_all(machine.path("etc/modprobe.d")).expect("mkdir");
        machine.write("etc/modprobe.d/a.conf", "options a x=1\n");
        machine
    }

    fn index(&self) {
        fs::create_dir_all(self.path("modules/1")).expect("mkdir");
        self.write("modules/1/modules.dep.bin", "index");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("rename");
    }

    fn link(&self, to: &str, name: &str) {
        symlink(to, self.path(name)).expect("symlink");
    }

    fn watch(&self) -> Watch {
        let files = ["modules/1/modules.dep.bin", "hwdb/hwdb.bin"].map(|name| self.path(name));
        let config = ["etc/modprobe.d", "run/modprobe.d"].map(|name| self.path(name));
        Watch::new(files.into(), config.into())
    }

    /// Each of these changes is told by the next look, once.
    fn is_told(&self, watch: &mut Watch, changes: &[(&str, &dyn Fn())]) {
        settled(watch);
        for (what, change) in changes {
            change();
            assert!(told(watch), "{what}");
            settled(watch);
        }
    }

    fn stamp(&self) -> Stamp {
        let config = ["etc/modprobe.d", "run/modprobe.d"].map(|name| self.path(name));
        Stamp::take(&self.path("modules/1"), &config)
    }

    /// The stamps before and after a change.
    fn around(&self, change: impl FnOnce(&Self)) -> [Stamp; 2] {
        let before = self.stamp();
        // So long the clock of inodes may stand still: it ticks with HZ.
        std::thread::sleep(Duration::from_millis(20));
        change(self);
        [before, self.stamp()]
    }
}

fn told(watch: &mut Watch) -> bool {
    watch.look() != News::Nothing
}

/// Looks until nothing is told any more: what a watch does itself may be told as well.
fn settled(watch: &mut Watch) {
    assert!((0..3).any(|_| !told(watch)), "the same is told again and again");
    assert!(!told(watch));
}

#[test]
fn while_nothing_happens_nothing_is_told() {
    let machine = Machine::new();
    let mut watch = machine.watch();
    assert!((0..100).all(|_| !told(&mut watch)));
    fs::read(machine.path("etc/modprobe.d/a.conf")).expect("read");
    assert!(!told(&mut watch), "a file is read");
    machine.write("etc/hosts", "");
    machine.write("modules/1/modules.dep", "");
    machine.write("elsewhere", "");
    assert!(!told(&mut watch), "files that nobody asked for");
}

#[test]
fn every_change_of_a_file_is_told() {
    let machine = Machine::new();
    let (w, mut watch) = (&machine, machine.watch());
    w.is_told(
        &mut watch,
        &[
            ("written in place", &|| w.write("etc/modprobe.d/a.conf", "options a x=2\n")),
            ("appended to by another name", &|| {
                fs::hard_link(w.path("etc/modprobe.d/a.conf"), w.path("other")).expect("link");
                w.write("other", "options a x=3\n");
            }),
            ("another one beside it", &|| w.write("etc/modprobe.d/b.conf", "")),
            ("written since", &|| w.write("etc/modprobe.d/b.conf", "blacklist b\n")),
            ("renamed", &|| w.rename("etc/modprobe.d/b.conf", "etc/modprobe.d/c.conf")),
            ("removed", &|| fs::remove_file(w.path("etc/modprobe.d/c.conf")).expect("remove")),
            ("renamed over, as depmod does", &|| {
                w.write("modules/1/modules.dep.bin.new", "index");
                w.rename("modules/1/modules.dep.bin.new", "modules/1/modules.dep.bin");
            }),
            ("written after that", &|| w.write("modules/1/modules.dep.bin", "other")),
        ],
    );
}

#[test]
fn directories_that_come_and_go_are_told() {
    let machine = Machine::new();
    let (w, mut watch) = (&machine, machine.watch());
    w.is_told(
        &mut watch,
        &[
            ("the parent of one that is not there", &|| fs::create_dir(w.path("run")).expect("mkdir")),
            ("itself", &|| fs::create_dir(w.path("run/modprobe.d")).expect("mkdir")),
            ("a file in it", &|| w.write("run/modprobe.d/x.conf", "blacklist x\n")),
            ("both at once, with a file in it", &|| {
                fs::create_dir(w.path("hwdb")).expect("mkdir");
                w.write("hwdb/hwdb.bin", "1");
            }),
            ("the file in it", &|| w.write("hwdb/hwdb.bin", "2")),
            ("a tree is removed", &|| fs::remove_dir_all(w.path("modules")).expect("remove")),
            ("and comes back", &|| w.index()),
            ("and changes", &|| w.write("modules/1/modules.dep.bin", "other")),
            ("a parent is another one", &|| {
                w.rename("modules", "modules.old");
                w.index();
            }),
            ("what the new one holds changes", &|| w.write("modules/1/modules.dep.bin", "other")),
        ],
    );
    w.write("modules.old/1/modules.dep.bin", "nobody reads it");
    assert!(!told(&mut watch));
}

#[test]
fn symbolic_links_are_followed_and_their_switching_is_told() {
    let machine = Machine::new();
    let w = &machine;
    for tree in ["store1", "store2"] {
        fs::create_dir(w.path(tree)).expect("mkdir");
        w.write(&format!("{tree}/modules.dep.bin"), tree);
        w.write(&format!("{tree}/nvidia.conf"), tree);
    }
    fs::remove_dir_all(w.path("modules/1")).expect("remove");
    w.link("../current", "modules/1");
    w.link("store1", "current");
    w.link("../../alternative", "etc/modprobe.d/nvidia.conf");
    w.link(w.path("store1/nvidia.conf").to_str().expect("text"), "alternative");
    let mut watch = w.watch();
    let switch = |to: &str, name: &str| {
        w.link(to, "new");
        w.rename("new", name);
    };
    w.is_told(
        &mut watch,
        &[
            ("what it leads to is written", &|| w.write("store1/modules.dep.bin", "other")),
            ("the link behind the link is switched", &|| switch("store2", "current")),
            ("what that leads to is written", &|| w.write("store2/modules.dep.bin", "other")),
            ("a file behind two links", &|| w.write("store1/nvidia.conf", "other")),
            ("the alternative is switched", &|| switch("store2/nvidia.conf", "alternative")),
            ("the alternative's file", &|| w.write("store2/nvidia.conf", "other")),
            ("a link becomes a circle", &|| switch("current", "current")),
            ("a link leads nowhere", &|| switch("store3", "current")),
            ("what it led to is there", &|| {
                fs::create_dir(w.path("store3")).expect("mkdir");
                w.write("store3/modules.dep.bin", "1");
            }),
            ("and is written", &|| w.write("store3/modules.dep.bin", "2")),
        ],
    );
    w.write("store1/modules.dep.bin", "nobody reads it");
    assert!(!told(&mut watch));
}

#[test]
fn what_is_mounted_over_a_place_is_told_and_so_is_what_changes_there() {
    if depth().is_none() {
        let test = "what_is_mounted_over_a_place_is_told_and_so_is_what_changes_there";
        return again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let machine = Machine::new();
    let run = |command: &str, arguments: &[&str], place: &Path| {
        assert!(Command::new(command).args(arguments).arg(place).status().expect(command).success());
    };
    let (w, mut watch) = (&machine, machine.watch());
    let config = w.path("etc/modprobe.d");
    w.is_told(
        &mut watch,
        &[
            ("mounted over", &|| run("mount", &["-t", "tmpfs", "none"], &config)),
            ("a file in it", &|| w.write("etc/modprobe.d/x.conf", "blacklist x\n")),
            ("changed", &|| w.write("etc/modprobe.d/x.conf", "blacklist y\n")),
            ("mounted over a parent", &|| run("mount", &["-t", "tmpfs", "none"], &w.path("etc"))),
            ("the directory in it", &|| fs::create_dir(&config).expect("mkdir")),
            ("unmounted", &|| run("umount", &[], &w.path("etc"))),
            ("unmounted, too", &|| run("umount", &[], &config)),
            ("what was there before", &|| w.write("etc/modprobe.d/a.conf", "")),
        ],
    );
}

#[test]
fn what_was_added_is_watched_until_something_happens() {
    let machine = Machine::new();
    let (w, mut watch) = (&machine, machine.watch());
    let files = [w.path("modules/1/kernel/a.ko"), w.path("modules/1/kernel/b.ko")];
    fs::create_dir(w.path("modules/1/kernel")).expect("mkdir");
    w.write("modules/1/kernel/a.ko", "");
    let change: [(&str, &dyn Fn()); 3] = [
        ("written", &|| w.write("modules/1/kernel/a.ko", "fixed")),
        ("there after all", &|| w.write("modules/1/kernel/b.ko", "")),
        ("removed", &|| fs::remove_dir_all(w.path("modules/1/kernel")).expect("remove")),
    ];
    for (what, change) in change {
        settled(&mut watch);
        assert!(watch.also(&files) && !told(&mut watch), "{what}");
        change();
        assert!(told(&mut watch), "{what}");
    }
    fs::create_dir(w.path("modules/1/kernel")).expect("mkdir");
    settled(&mut watch);
    w.write("modules/1/kernel/a.ko", "");
    assert!(!told(&mut watch), "nobody has asked again");
}

#[test]
fn more_events_than_can_be_counted_are_told_and_what_comes_after_them_is() {
    let machine = Machine::new();
    let (w, mut watch) = (&machine, machine.watch());
    for n in 0..9_000 {
        w.write(&format!("etc/modprobe.d/{}", n % 2), "");
        fs::remove_file(w.path(&format!("etc/modprobe.d/{}", n % 2))).expect("remove");
    }
    assert!(told(&mut watch));
    assert!((0..10).any(|_| !told(&mut watch)));
    w.is_told(&mut watch, &[("written in place", &|| w.write("etc/modprobe.d/a.conf", ""))]);
}

#[test]
fn there_are_never_more_watches_than_a_bound_and_configuration_comes_first() {
    let machine = Machine::new();
    let (w, mut watch) = (&machine, machine.watch());
    let files: Vec<_> = (0..3000).map(|n| w.path(&format!("{n}.ko"))).collect();
    files.iter().for_each(|file| fs::write(file, "").expect("write"));
    settled(&mut watch);
    assert!(watch.also(&files[..1000]));
    assert!(!watch.also(&files));
    w.is_told(&mut watch, &[("written in place", &|| w.write("etc/modprobe.d/a.conf", ""))]);
    assert!(watch.also(&files[..1000]), "all were taken back");
}

#[test]
fn where_others_may_change_files_every_look_says_that_something_may_have_happened() {
    let mut watch = Watch::new(vec!["/sys/module/modules.dep.bin".into()], Vec::new());
    assert!((0..3).all(|_| told(&mut watch)));
    assert!(!watch.also(&["/etc/a.ko".into()]));
}

/// What is done, whether it is seen, and how it is done.
type Change<'a> = (&'a str, bool, &'a dyn Fn(&Machine));

#[test]
fn a_change_of_what_is_read_is_another_stamp_and_nothing_else_is() {
    let changes: [Change<'_>; 7] = [
        ("nothing", false, &|_| {}),
        ("an edit in place that keeps the size", true, &|w| {
            w.write("etc/modprobe.d/a.conf", "options a x=2\n")
        }),
        ("a file added", true, &|w| w.write("etc/modprobe.d/b.conf", "")),
        ("a file removed", true, &|w| fs::remove_file(w.path("etc/modprobe.d/a.conf")).expect("remove")),
        ("a file renamed", true, &|w| w.rename("etc/modprobe.d/a.conf", "etc/modprobe.d/z.conf")),
        ("a directory that was not there", true, &|w| {
            fs::create_dir_all(w.path("run/modprobe.d")).expect("mkdir");
            w.write("run/modprobe.d/c.conf", "blacklist a\n");
        }),
        ("files that nobody reads", false, &|w| {
            w.write("etc/modprobe.d/a.conf.dpkg-new", "");
            w.write("modules/1/modules.dep", "");
        }),
    ];
    for (what, is_seen, change) in changes {
        let [before, after] = Machine::new().around(change);
        assert_eq!(before != after, is_seen, "{what}");
        assert_eq!(
            fingerprint(&before),
            fingerprint(&after),
            "{what} is no part of the indexes' fingerprint"
        );
    }
}

#[test]
fn a_directory_by_a_second_name_is_seen_to_become_one_of_its_own() {
    let machine = Machine::new();
    fs::create_dir(machine.path("run")).expect("mkdir");
    machine.link("../etc/modprobe.d", "run/modprobe.d");
    let [before, after] = machine.around(|w| {
        fs::remove_file(w.path("run/modprobe.d")).expect("remove");
        fs::create_dir(w.path("run/modprobe.d")).expect("mkdir");
        w.write("run/modprobe.d/a.conf", "options a x=1\n");
    });
    assert!(before != after);
    let [before, after] = machine.around(|w| w.write("run/modprobe.d/a.conf", "options a x=2\n"));
    assert!(before != after);
}

#[test]
fn depmod_run_again_is_another_stamp_and_another_fingerprint_of_the_indexes() {
    let [before, after] = Machine::new().around(|w| {
        w.write("modules/1/tmp", "index");
        w.rename("modules/1/tmp", "modules/1/modules.dep.bin");
    });
    assert!(before != after);
    assert_ne!(fingerprint(&before), fingerprint(&after));
}

fn fingerprint(stamp: &Stamp) -> u64 {
    let mut hasher = DefaultHasher::new();
    stamp.hash_indexes(&mut hasher);
    hasher.finish()
}

/// What is kept of a failure's cause is what a look at its files would give, whichever of them changes.
#[test]
fn a_failed_modules_cause_changes_with_its_file_and_with_its_dependencies_files() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let failed = ["fx_top", "fx_twin"].map(Name::from);
    let mut causes = || {
        resolver.refresh();
        failed.each_ref().map(|name| {
            let cause = resolver.cause(name, None);
            assert_eq!(cause, resolver.plan(name, None).cause);
            cause
        })
    };
    let mut before = causes();
    assert_eq!(before, causes());
    for module in ["fx_top", "fx_mid", "fx_base"] {
        fs::copy(fixture.file(module), fixture.file("other")).expect("copy");
        fs::rename(fixture.file("other"), fixture.file(module)).expect("rename");
        let after = causes();
        assert_ne!(before[0], after[0], "{module}");
        assert_eq!(before[1], after[1], "fx_twin has nothing to do with {module}");
        assert_eq!(after, causes());
        before = after;
    }
}

/// libkmod drops all dependencies of a module when the file of one is missing, and the kernel says ENOENT.
#[test]
fn a_dependency_whose_file_is_back_is_a_new_attempt() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let mut core = Scheduler::new(Limits::default());
    let mut loads_of_a_request = || {
        let request =
            Request { alias: b"fx_top", origin: Origin::Scan { devpath: b"/devices/a" }, client: None };
        core.request(&mut resolver, request, Time::ZERO);
        let mut loads = Vec::new();
        while let Some(action) = core.next_action() {
            let Action::Load(plan) = action else { continue };
            let error = LoadError { errno: libc::ENOENT, stage: Stage::Insert };
            core.finished(&mut resolver, &plan.module, Outcome::Failed(error), Time::ZERO);
            loads.push(plan.module.to_string());
        }
        loads
    };
    fs::rename(fixture.file("fx_base"), fixture.file("away")).expect("rename");
    assert_eq!(loads_of_a_request(), ["fx_top"], "alone");
    assert_eq!(loads_of_a_request(), [""; 0], "nothing has changed");
    fs::rename(fixture.file("away"), fixture.file("fx_base")).expect("rename");
    assert_eq!(loads_of_a_request(), ["fx_base"]);
}

fn appear(modalias: &str) {
    let datagram = format!(
        "add@/devices/{modalias}\0ACTION=add\0DEVPATH=/devices/{modalias}\0SUBSYSTEM=test\0MODALIAS={modalias}\0"
    );
    Sender::open().expect("a sender").inject(datagram.as_bytes()).expect("injected");
}

/// An installer adds a module and triggers at once (B06, systemd issue 6723): udev waits up to 3 s before it looks.
#[test]
fn an_index_changed_right_after_a_request_holds_for_the_next_one() {
    alone("an_index_changed_right_after_a_request_holds_for_the_next_one", || {
        let fixture = Fixture::build("semantics");
        let kept = tempfile::tempdir_in(fixture.directory()).expect("tempdir");
        let indexes = || {
            let files =
                fs::read_dir(fixture.directory()).expect("read").flatten().map(|entry| entry.file_name());
            files.filter(|name| name.to_string_lossy().ends_with(".bin")).collect::<Vec<_>>()
        };
        for index in indexes() {
            fs::copy(fixture.directory().join(&index), kept.path().join(&index)).expect("copy");
        }
        fs::rename(fixture.file("fx_opt"), fixture.file("away")).expect("rename");
        fs::rename(fixture.file("away"), kept.path().join("fx_opt")).expect("rename");
        fixture.depmod();
        let mut running = Running::start(&fixture.flags());
        appear("fxopt:1");
        appear("fxbus:topmost");
        running.wait_for("add_once fx_top live");
        fs::rename(kept.path().join("fx_opt"), fixture.file("fx_opt")).expect("rename");
        for index in indexes() {
            fs::rename(kept.path().join(&index), fixture.directory().join(&index)).expect("rename");
        }
        appear("fxopt:1");
        running.settle();
        assert!(landed(&running.stop()).contains("fx_opt"));
    });
}

/// As an upgrade does, or a mount.
#[test]
fn a_tree_that_vanishes_and_comes_back_holds_for_the_next_request() {
    alone("a_tree_that_vanishes_and_comes_back_holds_for_the_next_request", || {
        let fixture = Fixture::build("semantics");
        let away = fixture.directory().with_file_name("away");
        let mut running = Running::start(&fixture.flags());
        appear("fxbus:topmost");
        running.wait_for("add_once fx_top live");
        fs::rename(fixture.directory(), &away).expect("rename");
        appear("fxopt:1");
        assert_eq!(running.settled()["no_module"], 1);
        fs::rename(&away, fixture.directory()).expect("rename");
        appear("fxopt:1");
        running.settle();
        assert!(landed(&running.stop()).contains("fx_opt"));
    });
}

/// /etc/modprobe.d is there only after the daemon has begun (B07, Home Assistant OS issue 1545).
#[test]
fn a_blacklist_that_appears_right_before_the_event_holds() {
    alone("a_blacklist_that_appears_right_before_the_event_holds", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&fixture.flags());
        fs::remove_dir_all(fixture.config()).expect("remove");
        appear("fxbus:topmost");
        running.wait_for("add_once fx_top live");
        fs::create_dir(fixture.config()).expect("mkdir");
        fs::write(fixture.config().join("late.conf"), "blacklist fx_opt\n").expect("write");
        appear("fxopt:1");
        running.settle();
        assert_eq!(running.json(&["status", "--json"])["requests"], 2);
        assert!(!landed(&running.stop()).contains("fx_opt"));
    });
}
