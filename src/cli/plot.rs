// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce plot`: the last storm as a picture.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::query::{Query, show, write};
use crate::fatal::Fatal;
use crate::plot::{Timeline, draw};

/// Draw the last storm, as SVG: the rate of requests and duplicates, and what became of each module when.
#[derive(Args, Debug)]
pub struct Command {
    /// Where the picture is written; an existing file is replaced [default: -, standard output].
    #[arg(value_name = "FILE.svg", conflicts_with = "json")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    query: Query,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = self.query.look("Storm", Value::Null)?;
        let storm = Option::<Timeline>::deserialize(&reply["storm"])
            .map_err(Fatal::at("Storm: the reply is not understood"))?;
        let picture = storm.map(draw);
        match (self.picture.filter(|path| path.as_os_str() != "-"), &picture) {
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
