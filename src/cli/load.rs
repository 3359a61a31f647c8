// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load`: ask for a module, and wait for what becomes of it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::asking::{Asking, print_answers};
use crate::control::protocol::Load;
use crate::escape::escape;
use crate::fatal::Fatal;

/// Load the modules of a modalias, or a module by its name, and wait until they have landed.
///
/// Typed by hand it is an administrator's word, and always an attempt. Run by udev (ACTION and DEVPATH in the
/// environment) it is a request of that device: the once rules hold.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias or a module's name [default: the MODALIAS of the device udev runs it for].
    alias: Option<OsString>,
    #[command(flatten)]
    asking: Asking,
}

impl Command {
    /// Asks and waits.
    ///
    /// # Errors
    /// No daemon, or one that refuses.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let variable = |name: &str| std::env::var_os(name).map(|value| escape(&value.into_vec()));
        let devpath = variable("ACTION").and_then(|_| variable("DEVPATH"));
        let given = self.alias.as_ref().map(|alias| escape(alias.as_bytes()));
        let alias =
            given.or_else(|| variable("MODALIAS").filter(|_| devpath.is_some())).ok_or_else(|| {
                Fatal::Usage(
                    "load what? name a module or a modalias; run by udev, MODALIAS would name it".into(),
                )
            })?;
        let seqnum = variable("SEQNUM").filter(|_| devpath.is_some()).and_then(|text| text.parse().ok());
        let synthetic = devpath.as_ref().map(|_| variable("SYNTH_UUID").is_some());
        let parameters = json!(Load { alias: alias.clone(), devpath, seqnum, synthetic });
        let reply = self.asking.order("Load", parameters)?;
        print_answers(&reply, &alias, self.asking.json)
    }
}
