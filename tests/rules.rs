// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Rules: who loads for a MODALIAS, as udev reads it
//!
//! `udevadm test` says what udev would run for a device of this machine, with our rules in place of systemd's. The kernel
//! command line that it sees is systemd's SYSTEMD_PROC_CMDLINE, and whether it is in an initramfs its SYSTEMD_IN_INITRD.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const RULES: &str = include_str!("../rules.d/80-drivers.rules.in");

/// For the program alone: our rules are those of /etc, and there is no daemon.
const PLACE: &str = "mount -t tmpfs none /run && mkdir -p /run/rules && cp \"$1\" /run/rules/80-drivers.rules && \
                     mount --bind /run/rules /etc/udev/rules.d && exec udevadm test --action=add \"$2\"";

/// Any device that has a MODALIAS.
fn device() -> PathBuf {
    let buses = fs::read_dir("/sys/bus").expect("/sys/bus").flatten();
    let devices = buses.filter_map(|bus| fs::read_dir(bus.path().join("devices")).ok()).flatten().flatten();
    let with_modalias = |path: &PathBuf| {
        fs::read_to_string(path.join("uevent"))
            .is_ok_and(|text| text.contains("\nMODALIAS=") || text.starts_with("MODALIAS="))
    };
    let device = devices.map(|device| device.path()).find(with_modalias).expect("a device with a MODALIAS");
    device.canonicalize().expect("a device")
}

#[test]
fn with_addonce_off_udev_loads_as_it_always_did() {
    let directory = tempfile::tempdir().expect("tempdir");
    let rules = directory.path().join("rules");
    let program = directory.path().join("addonce-load");
    fs::write(&program, "").expect("write");
    fs::write(&rules, RULES.replace("@BINDIR@", directory.path().to_str().expect("text"))).expect("write");
    let device = device();
    for (line, initramfs, is_off) in [
        ("quiet", false, false),
        ("addonce=on rd.addonce=1", true, false),
        ("quiet addonce=off", false, true),
        ("addonce=0", true, true),
        ("rd.addonce=0", true, true),
        ("rd.addonce=off", true, true),
        ("rd.addonce=0", false, false),
    ] {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", PLACE, "sh"])
            .args([&rules, &device])
            .env("SYSTEMD_PROC_CMDLINE", line)
            .env("SYSTEMD_IN_INITRD", if initramfs { "1" } else { "0" })
            .output()
            .expect("unshare (util-linux)");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let runs = (said.contains("kmod load"), said.contains(program.to_str().expect("text")));
        assert_eq!(runs, (is_off, !is_off), "{line}, initramfs: {initramfs}: {said}");
    }
}
