// SPDX-License-Identifier: MIT OR Apache-2.0
//! # There: whether there is anything to load at all
//!
//! Owns the quick look of a process that lives for one question: udev runs one per event where there is no daemon, and
//! most of these ask for what is live already. It reads indexes and sysfs, and neither policy nor stamps: what is live
//! needs none.

use std::ffi::CString;

use super::initstate::initstate;
use super::resolver::name_of;
use super::tree::Tree;
use crate::fatal::Fatal;
use crate::once::{InitState, Name, Verdict};

/// The modules of an alias, if each of them is live or builtin; none where there is something to load, or to decide.
///
/// # Errors
/// [`Fatal::System`] where there is no such tree.
pub fn all_there(tree: &Tree, alias: &[u8]) -> Result<Option<Vec<(Name, Verdict)>>, Fatal> {
    let Ok(text) = CString::new(alias) else { return Ok(Some(Vec::new())) };
    let ctx = tree.open()?;
    let Ok(found) = ctx.lookup(&text) else { return Ok(None) };
    let mut modules: Vec<(Name, Verdict)> = Vec::new();
    for each in &found {
        let Some(name) = name_of(&each.module) else { return Ok(None) };
        let verdict = match each.builtin {
            true => Verdict::Builtin,
            false if initstate(&tree.sysfs, &name) == InitState::Live => Verdict::Load,
            false => return Ok(None),
        };
        if modules.iter().all(|(known, _)| *known != name) {
            modules.push((name, verdict));
        }
    }
    Ok(Some(modules))
}
