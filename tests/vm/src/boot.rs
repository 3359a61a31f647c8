// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a boot of a whole Debian came to, beyond the modules: part of a result.
//!
//! Owns what a boot is (from the kernel's start to when it had settled, the initramfs included), when the root file
//! system's init took over in it (PID 1 became another program for the last time), and what is expected of a boot as such.
//! Insert calls afterwards, by the scenario's further steps, are a number here and not among the result's calls.

use crate::raw::Raw;
use crate::trace::{Call, Trace, by_addonce};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// How many of the result's insert calls came before the root file system's init took over.
    pub initramfs_calls: u32,
    /// The modules that these were for, in their order.
    #[serde(default)]
    pub initramfs: Vec<String>,
    /// Insert calls after the boot had settled.
    pub later_calls: u32,
    /// What systemd says it took, from its start to the end of the boot.
    pub userspace: f64,
    /// `systemctl is-system-running`.
    pub state: String,
    pub failed_units: Vec<String>,
    /// Whether `multi-user.target` is active.
    pub multi_user: bool,
    /// Seconds by which addonce.service was active before systemd-udev-trigger.service began; nothing without addonce.
    pub ahead: Option<f64>,
    /// Those of them that came before addonce loaded any.
    #[serde(default)]
    pub before_addonce: Vec<String>,
    /// What the initramfs was not to load, and what was to come before addonce's: the kernel's command line says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_initramfs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted_before: Vec<String>,
    /// The package is installed, and has to be noticed.
    #[serde(default)]
    pub needs_service: bool,
    /// The same as with stock is expected, storm and all.
    #[serde(default)]
    pub as_stock: bool,
}

/// The boot, and its calls.
pub fn read(raw: &Raw, trace: Trace) -> Result<(Boot, Vec<Call>), String> {
    let root = trace.inits.last().ok_or("the trace does not say when PID 1 became an init")?;
    let booted = trace.booted().ok_or("the trace does not say when the boot had settled")?;
    if root.calls > booted.calls {
        return Err(format!("PID 1 became {} after the boot had settled", root.text));
    }
    let initramfs = &trace.calls[..root.calls];
    let seconds = |name: &str| Ok::<_, String>(raw.number(name)? as f64 / 1e6);
    let (trigger, addonce) = (seconds("trigger_us")?, seconds("addonce_us")?);
    let boot = Boot {
        initramfs_calls: root.calls as u32,
        initramfs: initramfs.iter().map(|call| call.module.clone()).collect(),
        before_addonce: initramfs
            .iter()
            .take_while(|call| !by_addonce(call))
            .map(|call| call.module.clone())
            .collect(),
        later_calls: (trace.calls.len() - booted.calls) as u32,
        userspace: seconds("finish_us")? - seconds("userspace_us")?,
        state: raw.fact("state")?.into(),
        failed_units: raw.lines("failed-units").unwrap_or_default(),
        multi_user: raw.fact("multi_user")? == "active",
        // systemd's word for never is 0.
        ahead: (addonce > 0.0).then_some(trigger - addonce),
        ..Boot::default()
    };
    let calls = booted.calls;
    Ok((boot, trace.calls.into_iter().take(calls).collect()))
}

impl Boot {
    /// What keeps this from being a good boot, whatever it loaded.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.multi_user {
            faults.push("multi-user.target was not reached".into());
        }
        if self.state != "running" || !self.failed_units.is_empty() {
            faults.push(format!("the system is {}: {}", self.state, self.failed_units.join(", ")));
        }
        match self.ahead {
            None if self.needs_service => faults.push("addonce.service was never active".into()),
            Some(_) if !self.needs_service => faults.push("addonce.service was active".into()),
            _ => {}
        }
        let late = self.wanted_before.iter().filter(|name| !self.before_addonce.contains(name));
        faults.extend(late.map(|name| format!("{name} was not loaded before addonce began")));
        faults
    }

    /// What the initramfs loaded and was not to, and what `reference`, who was not told so, does not load there either.
    pub fn unheeded(&self, reference: &Self) -> Vec<String> {
        let told = |boot: &Self, loads: bool| {
            let names = self.not_in_initramfs.iter().filter(|name| boot.initramfs.contains(name) == loads);
            names.cloned().collect::<Vec<_>>()
        };
        let loaded = told(self, true).into_iter().map(|name| format!("{name} was loaded in the initramfs"));
        let vain = told(reference, false).into_iter();
        let vain =
            vain.map(|name| format!("{name} is in stock's initramfs not loaded either: that shows nothing"));
        loaded.chain(vain).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Mark;

    const RAW: &str = "@@fact trigger_us 9000000\n@@fact addonce_us 8500000\n@@fact finish_us 60000000\n\
        @@fact userspace_us 7000000\n@@fact state running\n@@fact multi_user active\n@@section failed-units\n@@end\n@@done\n";

    fn mark(text: &str, at: f64, calls: usize) -> Mark {
        Mark { text: text.into(), at, calls }
    }

    fn trace() -> Trace {
        let call = |module: &str| Call {
            module: module.into(),
            caller: "x".into(),
            errno: Some(0),
            called: 0.0,
            returned: None,
        };
        Trace {
            calls: ["virtio_blk", "evdev", "button", "psmouse"].map(call).into(),
            marks: vec![mark("booted", 61.0, 3)],
            inits: vec![mark("/init", 2.0, 0), mark("/sbin/init", 7.0, 1)],
            ..Trace::default()
        }
    }

    fn good() -> Boot {
        let boot = read(&Raw::parse(RAW).unwrap(), trace()).unwrap().0;
        Boot { needs_service: true, ..boot }
    }

    #[test]
    fn calls_before_the_end_of_the_boot_are_the_boot_s_the_initramfs_s_included() {
        let (boot, calls) = read(&Raw::parse(RAW).unwrap(), trace()).unwrap();
        assert_eq!(
            calls.iter().map(|call| call.module.as_str()).collect::<Vec<_>>(),
            ["virtio_blk", "evdev", "button"]
        );
        assert_eq!((boot.initramfs_calls, boot.later_calls), (1, 1));
        assert_eq!((boot.userspace, boot.ahead), (53.0, Some(0.5)));
    }

    #[test]
    fn a_trace_that_names_no_init_or_no_end_is_an_error() {
        let raw = Raw::parse(RAW).unwrap();
        assert!(read(&raw, Trace { inits: vec![], ..trace() }).unwrap_err().contains("became an init"));
        assert!(read(&raw, Trace { marks: vec![], ..trace() }).unwrap_err().contains("settled"));
        let late = Trace { inits: vec![mark("/sbin/init", 99.0, 4)], ..trace() };
        assert!(read(&raw, late).unwrap_err().contains("/sbin/init"));
    }

    #[test]
    fn what_the_kernel_s_command_line_forbids_or_wants_early_is_heeded() {
        let boot = |before: &str, without: &str| Boot {
            wanted_before: vec![before.into()],
            not_in_initramfs: vec![without.into()],
            ..good()
        };
        let stock = Boot { initramfs: ["virtio_blk", "evdev"].map(Into::into).into(), ..good() };
        assert_eq!(boot("virtio_blk", "evdev").faults(), [""; 0]);
        assert_eq!(boot("virtio_blk", "evdev").unheeded(&stock), [""; 0]);
        assert!(boot("evdev", "evdev").faults()[0].contains("evdev was not loaded before"));
        assert!(boot("virtio_blk", "virtio_blk").unheeded(&stock)[0].contains("was loaded"));
        assert!(boot("virtio_blk", "button").unheeded(&stock)[0].contains("shows nothing"));
    }

    #[test]
    fn a_boot_is_good_with_the_daemon_there_and_no_unit_failed() {
        assert_eq!(good().faults(), [""; 0]);
        let fault = |boot: Boot, says: &str| assert!(boot.faults()[0].contains(says), "{:?}", boot.faults());
        fault(Boot { multi_user: false, ..good() }, "multi-user");
        fault(
            Boot { state: "degraded".into(), failed_units: vec!["x.service".into()], ..good() },
            "x.service",
        );
        assert_eq!(Boot { ahead: Some(-0.25), ..good() }.faults(), [""; 0], "udev's order is no matter");
        fault(Boot { ahead: None, ..good() }, "never active");
        fault(Boot { needs_service: false, ..good() }, "was active");
    }
}
