// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce plot`: the last storm as a picture.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nix::sys::utsname::uname;
use serde::Deserialize;
use serde_json::Value;

use super::query::{Query, number, show, write};
use crate::control::json::millis;
use crate::daemon::clock;
use crate::fatal::Fatal;
use crate::format::{self, date};
use crate::plot::{About, Timeline, draw};

/// Draw the last storm, as SVG: the rate of requests and duplicates, and what became of each module when.
#[derive(Args, Debug)]
pub struct Command {
    /// Where the picture is written [default: -, standard output].
    #[arg(value_name = "FILE.svg", conflicts_with = "json")]
    picture: Option<PathBuf>,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    query: Query,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = self.query.look("Storm", Value::Null)?;
        let storm = Option::<Timeline>::deserialize(&reply["storm"])
            .map_err(Fatal::at("Storm: the reply is not understood"))?;
        let picture = storm.map(|storm| draw(storm, &about(&reply["storm"])));
        let file = self.picture.filter(|path| path.as_os_str() != "-");
        if let Some(path) = file.as_ref().filter(|path| path.is_file() && !self.force) {
            return Err(Fatal::Usage(format!(
                "{}: it is there already: --force replaces it",
                path.display()
            )));
        }
        match (file, &picture) {
            (Some(path), Some(picture)) => write(&path, |mut file| file.write_all(picture.as_bytes()))
                .map_err(Fatal::at(path.display()))?,
            _ => _ = show(self.query.json, &reply, |_| picture.clone().unwrap_or_default())?,
        }
        if picture.is_none() {
            log::error!("there was no storm yet: nothing has asked for a module");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where and when it was.
fn about(storm: &Value) -> About {
    let host = uname().expect("uname(2) has no reason to fail");
    let [host, kernel] = [host.nodename(), host.release()].map(|text| text.to_string_lossy().into_owned());
    let ago = number(storm, "/began_ms_ago");
    let date = date(format::ago(ago));
    let version = env!("CARGO_PKG_VERSION");
    About {
        text: format!("{host} · Linux {kernel} · addonce {version} · {date}"),
        began_ms: millis(clock()).saturating_sub(ago),
    }
}
