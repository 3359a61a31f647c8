// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that measured: what figures have to be read with.
//!
//! Owns the description and the sentence made of it. It promises to hold what the kernel, the distribution and QEMU say of
//! themselves, and nothing that names one machine among many: no host name, no path.

use crate::guest;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cpus: usize,
    pub memory_kb: u64,
    /// Whether the processor says that it is itself a guest's.
    pub virtual_machine: bool,
    pub kernel: String,
    pub distribution: String,
    /// The guests say theirs, too: those of a newer release may need another one.
    pub qemu: String,
}

impl Machine {
    pub fn read() -> Result<Self, String> {
        let text = |path: &str| {
            std::fs::read_to_string(Path::new(path)).map_err(|e| format!("cannot read {path}: {e}"))
        };
        let (cpuinfo, meminfo) = (text("/proc/cpuinfo")?, text("/proc/meminfo")?);
        let release = text("/etc/os-release")?;
        Ok(Self::describe(
            &cpuinfo,
            &meminfo,
            &release,
            text("/proc/sys/kernel/osrelease")?.trim(),
            guest::qemu_version()?,
        ))
    }

    fn describe(cpuinfo: &str, meminfo: &str, release: &str, kernel: &str, qemu: String) -> Self {
        let after = |text: &str, key: &str, sign: char| {
            let lines = text.lines().filter_map(|line| line.split_once(sign));
            let mut values = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim());
            values.next().unwrap_or("unknown").trim_matches('"').to_string()
        };
        let flags = after(cpuinfo, "flags", ':');
        let memory = after(meminfo, "MemTotal", ':');
        Self {
            processor: after(cpuinfo, "model name", ':'),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_kb: memory.trim_end_matches(" kB").parse().unwrap_or_default(),
            virtual_machine: flags.split(' ').any(|flag| flag == "hypervisor"),
            kernel: kernel.into(),
            distribution: after(release, "PRETTY_NAME", '='),
            qemu,
        }
    }

    pub fn sentence(&self) -> String {
        let kind = if self.virtual_machine { "a virtual machine" } else { "a machine" };
        let (cpus, processor, gib) = (self.cpus, &self.processor, self.memory_kb as f64 / 1048576.0);
        let (kernel, distribution) = (&self.kernel, &self.distribution);
        format!(
            "{kind} with {cpus} CPUs ({processor}) and {gib:.0} GiB of memory, Linux {kernel}, {distribution}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_in_one_sentence() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu hypervisor\n\nprocessor\t: 1\n";
        let release = "NAME=\"Some\"\nPRETTY_NAME=\"Some Linux 12\"\n";
        let machine =
            Machine::describe(cpuinfo, "MemTotal:       24117248 kB\n", release, "6.1", "7.2.2".into());
        assert_eq!(
            machine.sentence(),
            "a virtual machine with 2 CPUs (Some CPU @ 2 GHz) and 23 GiB of memory, Linux 6.1, Some Linux 12"
        );
    }
}
