// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce's own errors, the kind beside a module's answer (`once::Outcome`): addonce itself cannot go on. Such an
//! error is forwarded unchanged to `main`, printed as one line that names the path or value and the way out,
//! and turned into the exit code that scripts rely on.

use std::fmt::Display;
use std::process::ExitCode;

/// Why addonce cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub enum Fatal {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// A command needs the daemon, and nothing listens.
    NoDaemon(String),
    /// What was waited for did not come in time.
    TimedOut(String),
    /// The system refused: a permission, a missing file, a kernel without modules.
    System(String),
}

impl Fatal {
    /// [`Fatal::System`], for what failed in this place.
    pub fn at<E: Display>(place: impl Display) -> impl Fn(E) -> Self {
        move |error| Fatal::System(format!("{place}: {error}"))
    }

    /// The exit code: 2 usage, 3 no daemon, 4 timed out, 5 the system refused.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Fatal::Usage(_) => 2,
            Fatal::NoDaemon(_) => 3,
            Fatal::TimedOut(_) => 4,
            Fatal::System(_) => 5,
        })
    }
}
