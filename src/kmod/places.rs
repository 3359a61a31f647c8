// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Places: where answers are made from
//!
//! Owns the paths of the files that a resolution or a plan is read from: the module tree with depmod's indexes, the
//! modprobe.d directories, hwdb. They are libkmod's and libudev's; udev's program goes by the same list, so it is
//! without dependencies.

/// The directory that holds one directory of modules per kernel version.
pub const MODULES: &str = "/lib/modules";

/// What libkmod opens in a module directory. modules.softdep is configuration, written by depmod.
pub const INDEXES: [&str; 6] = [
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.symbols.bin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.softdep",
];

/// The directories that libkmod reads when it is told none, in its order (`default_config_paths` of
/// libkmod.c, seen with strace in kmod 30), and the one that later versions add in the place before the last.
pub const MODPROBE_D: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Where libudev looks for hwdb.bin: the strings of systemd's sd-hwdb.
pub const HWDB: [&str; 5] = [
    "/etc/systemd/hwdb/hwdb.bin",
    "/etc/udev/hwdb.bin",
    "/usr/lib/systemd/hwdb/hwdb.bin",
    "/lib/systemd/hwdb/hwdb.bin",
    "/lib/udev/hwdb.bin",
];
