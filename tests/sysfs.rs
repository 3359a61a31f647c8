// SPDX-License-Identifier: MIT OR Apache-2.0
//! The devices that are there, read from a tree as /sys is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use addonce::uevent::sysfs::{Device, Scan};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for directory in ["devices", "bus/pci/devices", "bus/pci/drivers", "class/input", "class/net"] {
        fs::create_dir_all(tree.path().join(directory)).unwrap();
    }
    tree
}

fn device(tree: &Path, path: &str, modalias: impl AsRef<[u8]>) {
    fs::create_dir_all(tree.join(path)).unwrap();
    fs::write(tree.join(path).join("modalias"), modalias).unwrap();
}

fn found(tree: &Path) -> Vec<(String, Vec<Vec<u8>>)> {
    let name = |device: Device| (String::from_utf8(device.devpath).unwrap(), device.modaliases);
    let mut found: Vec<_> = Scan::new(tree).flatten().map(name).collect();
    found.sort();
    found
}

#[test]
fn devices_of_buses_and_of_classes_are_found_once_each_with_their_kernel_path() {
    let tree = tree();
    device(tree.path(), "devices/pci0/card", b"pci:\xff\n");
    device(tree.path(), "devices/pci0/card/input0", "input:b0\n");
    device(tree.path(), "devices/pci0/plain", "\n");
    device(tree.path(), "devices/acpi", "acpi:PRP0001:\nof:NfooT(null)Cbar\n");
    for (link, target) in [
        ("bus/pci/devices/card", "../../../devices/pci0/card"),
        ("class/net/card", "../../devices/pci0/card"),
        ("class/input/input0", "../../devices/pci0/card/input0"),
        ("bus/pci/devices/plain", "../../../devices/pci0/plain"),
        ("bus/pci/devices/acpi", "../../../devices/acpi"),
    ] {
        symlink(target, tree.path().join(link)).unwrap();
    }
    let acpi = vec![b"acpi:PRP0001:".to_vec(), b"of:NfooT(null)Cbar".to_vec()];
    let acpi = ("/devices/acpi".to_owned(), acpi);
    let card = ("/devices/pci0/card".to_owned(), vec![b"pci:\xff".to_vec()]);
    let input = ("/devices/pci0/card/input0".to_owned(), vec![b"input:b0".to_vec()]);
    assert_eq!(found(tree.path()), [acpi, card, input]);
}

#[test]
fn what_a_device_calls_itself_is_no_modalias() {
    let tree = tree();
    for (path, link, contents) in [
        ("devices/card", "bus/pci/devices/card", "MMC_NAME=X\nMODALIAS=mmc:block\n"),
        ("devices/cpu", "bus/pci/devices/cpu", "MODALIAS=cpu:x\n\n"),
        ("devices/two", "bus/pci/devices/two", "MMC_NAME=X\nMODALIAS=evil\nMODALIAS=mmc:block\n"),
        ("devices/middle", "bus/pci/devices/middle", "MODALIAS=evil\nDEV_NAME=X\n"),
        ("devices/empty", "bus/pci/devices/empty", "MODALIAS=\n"),
        ("devices/rc0", "class/net/rc0", "DEV_NAME=ACME Receiver\nMODALIAS=evil\n"),
    ] {
        fs::create_dir_all(tree.path().join(path)).unwrap();
        fs::write(tree.path().join(path).join("uevent"), contents).unwrap();
        let up = if link.starts_with("bus") { "../../../" } else { "../../" };
        symlink(format!("{up}{path}"), tree.path().join(link)).unwrap();
    }
    let card = ("/devices/card".to_owned(), vec![b"mmc:block".to_vec()]);
    let cpu = ("/devices/cpu".to_owned(), vec![b"cpu:x".to_vec()]);
    assert_eq!(found(tree.path()), [card, cpu]);
}

/// Its `uevent` takes as long as the hardware does. This one takes until somebody writes to it.
#[test]
fn a_battery_is_not_asked() {
    let tree = tree();
    for directory in ["devices/battery", "class/power_supply"] {
        fs::create_dir_all(tree.path().join(directory)).unwrap();
    }
    mkfifo(&tree.path().join("devices/battery/uevent"), Mode::S_IRWXU).unwrap();
    symlink("../../devices/battery", tree.path().join("class/power_supply/battery")).unwrap();
    let (sender, receiver) = channel();
    let root = tree.path().to_owned();
    thread::spawn(move || sender.send(found(&root)));
    let devices = receiver.recv_timeout(Duration::from_secs(5)).expect("nothing that blocks is opened");
    assert!(devices.is_empty(), "{devices:?}");
}

#[test]
fn what_vanished_or_leads_elsewhere_is_passed_over() {
    let tree = tree();
    let outside = tempfile::tempdir().unwrap();
    device(outside.path(), "devices/far", "far\n");
    fs::write(tree.path().join("class/net/bonding_masters"), "\n").unwrap();
    fs::create_dir(tree.path().join("devices/bare")).unwrap();
    let far = outside.path().join("devices/far");
    for (name, target) in [
        ("gone", Path::new("../../devices/gone")),
        ("bare", Path::new("../../devices/bare")),
        ("absolute", far.as_path()),
        ("up", Path::new("../../../../../../../../devices/far")),
        ("aside", Path::new("../../bus/pci")),
        ("top", Path::new("../../devices")),
    ] {
        symlink(target, tree.path().join("class/net").join(name)).unwrap();
    }
    let mut scan = Scan::new(tree.path());
    assert_eq!(scan.by_ref().flatten().next(), None);
    assert_eq!((scan.links, scan.unreadable), (7, 0));
}

#[test]
fn a_tree_that_is_no_sysfs_says_so_by_its_count() {
    let mut scan = Scan::new("/nonexistent");
    assert_eq!((scan.next(), scan.unreadable), (None, 2));
}

#[test]
fn what_cannot_be_read_is_counted() {
    let tree = tree();
    fs::create_dir_all(tree.path().join("devices/d/modalias")).unwrap();
    symlink("../../devices/d", tree.path().join("class/net/d")).unwrap();
    let mut scan = Scan::new(tree.path());
    assert_eq!((scan.next(), scan.unreadable), (Some(None), 1));
}

#[test]
fn a_step_is_one_link() {
    let tree = tree();
    for n in 0..5 {
        symlink("../../devices/none", tree.path().join(format!("class/net/{n}"))).unwrap();
    }
    let mut scan = Scan::new(tree.path());
    assert!((0..5).all(|_| scan.next() == Some(None)));
    assert_eq!(scan.next(), None);
}
