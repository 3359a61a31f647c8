// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel says of a module, in `/sys/module/NAME/initstate`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::once::InitState;

/// Reads a module's state below the given sysfs. A module that is coming may still fail, and only `live` means that it can be used
/// (kernel/module/main.c, `show_initstate()`).
///
/// A directory without the file is [`InitState::Coming`]: the kernel makes the directory first. Builtin modules have
/// such a directory as well, but they are told apart by modules.builtin before anybody asks here. A read that fails
/// (ENODEV: the module went while it was read) means that it is gone.
pub fn initstate(sysfs: &Path, module: &str) -> InitState {
    let directory = sysfs.join("module").join(module);
    match fs::read(directory.join("initstate")) {
        Ok(state) => match state.trim_ascii_end() {
            b"live" => InitState::Live,
            b"coming" => InitState::Coming,
            b"going" => InitState::Going,
            _ => InitState::Absent,
        },
        Err(error) if error.kind() == ErrorKind::NotFound && directory.is_dir() => InitState::Coming,
        Err(_) => InitState::Absent,
    }
}
