// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce plot`: the last storm as a picture.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::query::{Query, print, replace, show};
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
        if self.query.json {
            show(true, &reply, |_| String::new())?;
        }
        let Some(storm) = storm else {
            log::error!("there was no storm yet: nothing has asked for a module");
            return Ok(ExitCode::FAILURE);
        };
        match self.picture {
            _ if self.query.json => {}
            Some(path) if path.as_os_str() != "-" => {
                let written = replace(&path, |mut file| file.write_all(draw(storm).as_bytes()));
                written.map_err(Fatal::at(path.display()))?;
            }
            _ => drop(print(&draw(storm))?),
        }
        Ok(ExitCode::SUCCESS)
    }
}
