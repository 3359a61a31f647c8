// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce plot`: the last storm as a picture.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::options::unreadable;
use super::query::{Query, print, show};
use crate::fatal::Fatal;
use crate::plot::{Timeline, draw};

/// Draw the last storm, as SVG: the rate of requests and duplicates, and what became of each module when.
#[derive(Args, Debug)]
pub struct Command {
    /// Where the picture is written [default: standard output].
    #[arg(value_name = "FILE.svg", conflicts_with = "json")]
    picture: Option<PathBuf>,
    /// Draw what `addonce plot --json` printed, and ask no daemon.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["json", "socket"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks or reads, draws, and writes.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let (source, reply) = match &self.from {
            Some(path) => {
                let text = std::fs::read(path).map_err(unreadable(path))?;
                (path.display().to_string(), serde_json::from_slice(&text).map_err(unreadable(path))?)
            }
            None => ("Storm".to_owned(), self.query.look("Storm", Value::Null)?),
        };
        // A file is an argument; what a daemon says is not.
        let wrong = if self.from.is_some() { Fatal::Usage } else { Fatal::System };
        let no_storm = |why: &dyn Display| wrong(format!("{source}: no storm is told here: {why}"));
        // It has to be said that there was none: any other JSON would read as that, too.
        let storm = reply.get("storm").ok_or_else(|| no_storm(&"there is no field `storm`"))?;
        let storm = Option::<Timeline>::deserialize(storm).map_err(|error| no_storm(&error))?;
        if self.query.json {
            show(true, &reply, |_| String::new())?;
        }
        let Some(storm) = storm else {
            log::error!("{source}: there was no storm yet: nothing has asked for a module");
            return Ok(ExitCode::FAILURE);
        };
        match self.picture {
            _ if self.query.json => {}
            None => drop(print(&draw(storm))?),
            Some(path) => std::fs::write(&path, draw(storm))
                .map_err(|error| Fatal::System(format!("{}: {error}", path.display())))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
