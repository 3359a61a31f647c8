// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Duplicate: a device that asks for what is live
//!
//! Owns the look of a process that finds nobody to ask: whoever listened before has left what modaliases stand for (see
//! src/kmod/known.rs), the kernel says what is live, and what is live is a duplicate by any of the once rules. Resolves
//! nothing, and says no where it is not certain. Bounded by some tens of stat(2) calls and one small file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::known::{Known, mentions};
use crate::places::{MODPROBE_D, MODULES};
use crate::stamp::Stamp;

/// Whether all modules of a modalias are known, by the file beside this socket, and live.
pub fn is_duplicate(socket: &Path, alias: &[u8]) -> bool {
    // In a storm most ask for what has failed, and is not there.
    if !mentions(socket, alias) {
        return false;
    }
    let Ok(kernel) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let directory = Path::new(MODULES).join(kernel.trim_end());
    let stamp = Stamp::take(&directory, &MODPROBE_D.map(PathBuf::from));
    let known = Known::beside(socket, &stamp).and_then(|known| known.modules(alias));
    known.is_some_and(|modules| modules.iter().all(|module| is_live(module)))
}

/// What the kernel says of it. A module that is coming may still fail, and one that is going is as good as gone.
fn is_live(module: &str) -> bool {
    let state = fs::read(Path::new("/sys/module").join(module).join("initstate"));
    state.is_ok_and(|state| state.trim_ascii_end() == b"live")
}
