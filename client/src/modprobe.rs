// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce-modprobe: what the kernel runs for request_module(), where kernel.modprobe names it.
//!
//! The kernel runs it as `-q -- NAME`. A module that is live is an answer; a daemon that runs is asked, and says what modprobe
//! would exit with. Everything else, and any doubt, is the modprobe's that stood in kernel.modprobe before: it is executed with the
//! same arguments. iptables and others come with arguments of their own.
//!
//! At most 50 of these run at a time in the whole system, and PID 1 may wait for one. So no daemon is started, none is waited for
//! that gives no sign of life, and a supervisor's socket without a daemon behind it is left alone.
//!
//! What it costs is nearly all exec to exit, so std's own start is left out: a signal stack, for which it reads /proc/self/maps;
//! SIGPIPE ignored; and /dev/null as the first three descriptors. The kernel runs it without any, so what is opened here may be
//! the standard error; nothing of it is open any more when there is something to say.
//!
//! Exit codes: 0 and 1, as modprobe · 127 no modprobe can be executed.

#![no_main]

use std::env;
use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use addonce_load::kernel_name::is_asked_for;
use addonce_load::wire::{reach, receive};
use addonce_load::{MODPROBE, call, cannot_answer, json, lock, socket};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{MsgFlags, send};

/// The daemon's first reply comes within this time.
const ACCEPT: Duration = Duration::from_secs(1);
/// It says at least every second that it lives. When it has not for so long, it hangs.
const SILENCE: Duration = Duration::from_secs(3);
/// So long nothing is heard before it is looked whether somebody has stopped or ended it: at first, and once it has accepted. 50 may wait
/// while a module is being loaded, so the second is longer than between two signs of life (BEAT in src/control/server.rs): none has to
/// look then. With the start of modprobe it is less than a second, which is how much later than without us
/// anybody is to be answered.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(850));
/// After this time modprobe waits, in the kernel, as it ever did.
const LONGEST: Duration = Duration::from_secs(60);
/// How often one of these has become modprobe, in the environment, with which processes below have it, too: an install command may run
/// what kernel.modprobe names. None of them asks.
const EXECUTED: &str = "ADDONCE_EXECUTED";
/// With a larger number the first program is left out, which may be this one by another name, or a copy; with each more, another one.
const DEPTH: usize = 8;

// SAFETY: it is the only function of this name.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // std has them from glibc alone, where its own start is left out.
    // SAFETY: the C library hands over `count` strings, which live as long as the process does.
    let word = |n| unsafe { CStr::from_ptr(*words.add(n)) };
    let arguments: Vec<OsString> =
        (1..count as usize).map(|n| OsStr::from_bytes(word(n).to_bytes()).to_owned()).collect();
    let socket = socket();
    let depth = env::var(EXECUTED).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    let name = name(&arguments).filter(|_| depth == 0);
    let answer = name.and_then(|name| if is_live(name) { Some(0) } else { ask(&socket, name) });
    answer.unwrap_or_else(|| execute(&socket, &arguments, depth))
}

/// The name, where this is the kernel's request and one that can be asked.
fn name(arguments: &[OsString]) -> Option<&[u8]> {
    let [quiet, end, name] = arguments else { return None };
    let name = name.as_bytes();
    (quiet == "-q" && end == "--" && is_asked_for(name)).then_some(name)
}

fn is_live(name: &[u8]) -> bool {
    let name: Vec<u8> = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect();
    let module = Path::new("/sys/module").join(OsStr::from_bytes(&name));
    fs::read(module.join("initstate")).is_ok_and(|state| state == b"live\n")
}

/// What modprobe would exit with; none where there is no daemon, or it cannot say.
fn ask(socket: &Path, name: &[u8]) -> Option<c_int> {
    // Who has the lock is a daemon, or is becoming one.
    let is_held =
        matches!(Flock::lock(lock(socket)?, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)));
    if !is_held || cannot_answer(socket).is_some() {
        return None;
    }
    let begin = Instant::now();
    let (mut read, mut until, mut look) = (Vec::new(), begin + ACCEPT, LOOK.0);
    let mut stream = reach(socket, until).ok()?;
    let call = call("Autoload", &format!("\"name\":{}", json(name)));
    send(stream.as_raw_fd(), &call, MsgFlags::MSG_NOSIGNAL).ok()?;
    loop {
        let reply = match receive(&mut stream, &mut read, Some(until.min(Instant::now() + look))) {
            Ok(reply) => String::from_utf8(reply).ok()?,
            Err(error) if error.kind() == ErrorKind::WouldBlock && cannot_answer(socket).is_none() => {
                continue;
            }
            Err(_) => return None,
        };
        return match () {
            () if reply.contains("\"continues\":true") => {
                (until, look) = ((Instant::now() + SILENCE).min(begin + LONGEST), LOOK.1);
                continue;
            }
            () if reply.contains("\"answer\":\"done\"") => Some(0),
            () if reply.contains("\"answer\":\"failed\"") => Some(1),
            () => None,
        };
    }
}

/// Becomes modprobe: the one that stood in kernel.modprobe before, if the daemon has left its name. None is looked for in PATH, where
/// a name of ours may be.
fn execute(socket: &Path, arguments: &[OsString], depth: usize) -> c_int {
    let before = fs::read_link(socket.with_file_name("modprobe")).ok().filter(|before| before.is_absolute());
    let programs = before.into_iter().chain(MODPROBE.map(PathBuf::from));
    for program in programs.skip(depth.saturating_sub(DEPTH)) {
        // It goes by its own name.
        let error =
            Command::new(&program).args(arguments).env(EXECUTED, depth.saturating_add(1).to_string()).exec();
        // Where nobody can be told, the next one is tried all the same.
        let _ = writeln!(io::stderr(), "addonce-modprobe: {}: {error}", program.display());
    }
    127
}
