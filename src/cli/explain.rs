// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce explain`: what a modalias, a module or a device resolves to, and what loading it takes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::asking::{print, print_json};
use super::options::TreeOptions;
use crate::control::json;
use crate::escape::escape;
use crate::fatal::Fatal;
use crate::kmod::explain;
use crate::uevent::sysfs::modaliases;

/// Show what a modalias, a module's name or a device below /sys resolves to and, for each module, the steps that
/// loading it takes, in order, as `modprobe --show-depends` prints them. Nothing is loaded.
#[derive(Args, Debug)]
pub struct Command {
    /// A modalias, a module's name, or a path below /sys.
    #[arg(value_name = "MODALIAS|MODULE|SYSPATH")]
    what: OsString,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tree: TreeOptions,
}

impl Command {
    /// Resolves and prints. The exit code is 1 where no module is known.
    ///
    /// # Errors
    /// [`Fatal`] where there is no such tree, or the path is no device with a MODALIAS.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let mut resolver = self.tree.open()?;
        let alias = match self.what.as_bytes().starts_with(b"/") {
            true => modalias_of(Path::new(&self.what))?,
            false => self.what.into_vec(),
        };
        let modules = explain(&mut resolver, &alias);
        let found = !modules.is_empty();
        let explained = json::explained(&escape(&alias), &modules);
        if self.json {
            print_json(&explained)?
        } else {
            print(&page(&explained))?
        }
        Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn modalias_of(device: &Path) -> Result<Vec<u8>, Fatal> {
    let device = if device.is_file() { device.parent().unwrap_or(device) } else { device };
    let found = modaliases(device, true).map_err(|error| {
        Fatal::Usage(format!("{}: {error}: name a device's directory below /sys", device.display()))
    })?;
    // Of several udev keeps the last.
    found.into_iter().next_back().ok_or_else(|| {
        Fatal::Usage(format!(
            "{}: this device has no MODALIAS, so no module is looked up for it",
            device.display()
        ))
    })
}

fn page(explained: &Value) -> String {
    let modules = explained["modules"].as_array().map_or(&[][..], Vec::as_slice);
    let alias = explained["alias"].as_str().unwrap_or_default();
    let mut page = match modules.len() {
        0 => format!("{alias}: no module\n"),
        1 => format!("{alias}: 1 module\n"),
        n => format!("{alias}: {n} modules, tried in this order\n"),
    };
    for module in modules {
        let text = |key: &str| module[key].as_str().unwrap_or_default();
        let why = match text("verdict") {
            "blacklisted" => " (modprobe.d or the kernel command line; loads by its own name only)".into(),
            "builtin" => " (part of the kernel image)".into(),
            "ruled_out" if module["unless"].is_string() => format!(" (hwdb: {} exists)", text("unless")),
            "ruled_out" => " (hwdb: ADDONCE=never)".into(),
            _ if module["live"] == true => " (it is live already)".into(),
            _ => String::new(),
        };
        page += &format!("{}: {}{why}\n", text("module"), text("verdict").replace('_', " "));
        for step in module["plan"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            page += &format!("  {}\n", step.trim_end());
        }
    }
    page
}
