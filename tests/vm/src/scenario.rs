// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scenario: a directory of `scenarios/`, with what a guest does and what it needs for it.
//!
//! `run.sh` is sourced by the guest's init and defines `storm()`; `root/`, if there, is laid over the guest's root. Adding
//! a scenario is adding a directory.
//! Comment lines of `run.sh` say what it needs:
//!
//! | line | |
//! |---|---|
//! | `# needs: addonce` | the run names an addonce binary: /usr/bin/addonce, with its addonce-load beside it |
//! | `# needs: rules` | addonce's udev rules are installed |
//! | `# needs: order` | the run names a result, whose modules become /lab/order, a line each |
//! | `# needs: programs NAME ...` | these of the host's, beside busybox, udev's and kmod's |
//! | `# needs: fixtures` | the modules of `fixtures/` join the tree |
//! | `# needs: selftest` | the kernel's test_kmod.ko joins the tree, its kmod.sh is /lab/kmod.sh, and addonce-modprobe is there |
//! | `# modules: none` | all others are left out of it, indexes included, so that nothing else loads |
//! | `# programs: at most N %` | so many starts of addonce-load for each device with a MODALIAS, from 64 CPUs on |
//! | `# devices: NAME ...` | the machine has these of QEMU's besides |
//! | `# not asked for: NAME ...` | nothing asks for these here, though stock udev loads them by a rule of its own |
//! | `# boots: debian` | the guest boots a whole Debian from a disk |
//! | `# needs: deb` | of those: the run names addonce's package |
//! | `# modules: as with stock` | of those: the boot comes to what it comes to without |
//! | `# kernel: WORD ...` | of those: on the kernel's command line |
//! | `# not in the initramfs: NAME ...` | of those: these are not loaded there, though they are with stock, but later |
//! | `# before addonce: NAME ...` | of those: somebody loads these before addonce loads anything |
//! | `# tried twice: NAME ...` | of those: these fail first, and then, with another cause, come in |
//!
//! Where a Debian is booted, `install.sh`, if there, changes it beforehand, in a chroot, and `run.sh` may define
//! `afterwards()`, which is called when the boot is done.

use crate::tools;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Scenario {
    pub name: String,
    pub dir: PathBuf,
    pub needs_addonce: bool,
    /// addonce's udev rules are installed.
    pub needs_rules: bool,
    pub needs_fixtures: bool,
    pub needs_selftest: bool,
    /// Of the host's.
    pub programs: Vec<String>,
    /// It inserts the modules of an earlier result, in that order.
    pub needs_order: bool,
    pub order: Vec<String>,
    /// The distribution's own modules are left out.
    pub bare: bool,
    pub not_asked_for: Vec<String>,
    /// So many starts of addonce-load for a hundred devices with a MODALIAS, in a storm that deserves the name.
    pub most_programs: Option<u32>,
    /// What the machine has beside what all have.
    pub devices: Vec<String>,
    /// These fail first and then come in.
    pub twice: Vec<String>,
    /// The guest boots a Debian from a disk.
    pub boots: bool,
    pub needs_deb: bool,
    /// addonce is not to be noticed.
    pub as_stock: bool,
    /// On the kernel's command line.
    pub kernel_words: Vec<String>,
    /// What the initramfs is not to load, and what somebody is to load there before addonce loads anything.
    pub not_in_initramfs: Vec<String>,
    pub before_addonce: Vec<String>,
}

impl Scenario {
    pub fn script(&self) -> PathBuf {
        self.dir.join("run.sh")
    }

    /// What changes the Debian that the guest boots.
    pub fn install(&self) -> Option<PathBuf> {
        Some(self.dir.join("install.sh")).filter(|path| path.is_file())
    }

    /// The files laid over the guest's root.
    pub fn root(&self) -> Option<PathBuf> {
        Some(self.dir.join("root")).filter(|dir| dir.is_dir())
    }
}

pub fn find(name: &str) -> Result<Scenario, String> {
    find_in(&tools::source_dir().join("scenarios"), name)
}

fn find_in(scenarios: &Path, name: &str) -> Result<Scenario, String> {
    let dir = scenarios.join(name);
    // A name is one word of a path: it also names the directory of the run.
    if name.is_empty() || name.starts_with('.') || name.contains('/') || !dir.join("run.sh").is_file() {
        let known = tools::names(scenarios)?.join(", ");
        return Err(format!("no scenario '{name}' in {}; there are: {known}", scenarios.display()));
    }
    let script = String::from_utf8_lossy(&tools::read(&dir.join("run.sh"))?).into_owned();
    let says = |header: &str| script.lines().any(|line| line.trim() == header);
    let named = |header: &str| {
        let lines = script.lines().filter_map(|line| line.trim().strip_prefix(header));
        lines.flat_map(str::split_whitespace).map(String::from).collect::<Vec<_>>()
    };
    Ok(Scenario {
        name: name.into(),
        dir,
        needs_addonce: says("# needs: addonce"),
        needs_rules: says("# needs: rules"),
        needs_fixtures: says("# needs: fixtures"),
        needs_selftest: says("# needs: selftest"),
        programs: named("# needs: programs "),
        needs_order: says("# needs: order"),
        order: Vec::new(),
        bare: says("# modules: none"),
        not_asked_for: named("# not asked for: "),
        twice: named("# tried twice: "),
        devices: named("# devices: "),
        most_programs: match named("# programs: at most ").first().map(String::as_str) {
            Some(number) => Some(number.parse().map_err(|e| format!("{name}: programs: {number}: {e}"))?),
            None => None,
        },
        boots: says("# boots: debian"),
        needs_deb: says("# needs: deb"),
        as_stock: says("# modules: as with stock"),
        kernel_words: named("# kernel: "),
        not_in_initramfs: named("# not in the initramfs: "),
        before_addonce: named("# before addonce: "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_scenarios_say_whether_they_need_addonce() {
        assert!(!find("stock").unwrap().needs_addonce);
        assert!(find("service").unwrap().needs_addonce);
        assert!(find("scan").unwrap().needs_addonce);
    }

    #[test]
    fn the_fixtures_come_alone() {
        let (stock, fixes) = (find("stock").unwrap(), find("fixes").unwrap());
        assert!(!stock.needs_fixtures && !stock.bare);
        assert!(fixes.needs_fixtures && fixes.bare);
    }

    #[test]
    fn a_scenario_says_whether_it_boots_a_debian_and_what_that_must_come_to() {
        let (stock, service, purged) = ("boot-stock", "boot-service", "boot-purged");
        assert!(!find("stock").unwrap().boots);
        let of =
            |name| find(name).map(|s| (s.boots, s.needs_deb, s.as_stock, s.install().is_some())).unwrap();
        assert_eq!(of(stock), (true, false, false, false));
        assert_eq!(of(service), (true, true, false, true));
        assert_eq!(of(purged), (true, true, true, true));
    }

    #[test]
    fn an_unknown_scenario_is_answered_with_those_there_are() {
        for name in ["nonesuch", "", "../scenarios/stock", "."] {
            assert!(find(name).unwrap_err().contains("stock"), "{name}");
        }
    }
}
