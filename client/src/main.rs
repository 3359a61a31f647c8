// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce-load: what udev runs.
//!
//! `addonce-load` asks the daemon for the modules of the device in the environment (MODALIAS, DEVPATH, SEQNUM, SYNTH_UUID) and
//! ends when they have an outcome, so that `udevadm settle` covers the loads. `addonce-load --hold`, for an event of addonce's
//! own, ends when the daemon says so, and meanwhile keeps that event in udevd's queue.
//!
//! Where no daemon listens it starts `addonce serve`, which goes when nothing is left to do. When no answer can be had, it runs
//! `modprobe -b -q -- "$MODALIAS"`; for a hold it has udev itself load for all devices, since only a daemon that is gone knew
//! which of them waited. Exec to exit is what udev pays for an event, so it is small, static, and knows nothing of modules.
//!
//! Exit codes: 0 done, whatever became of the modules (addonce remembers and reports a failure; udev would only log it once
//! more per device) · 2 usage · 5 neither a daemon nor modprobe can be had.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use addonce_load::sysfs::Scan;
use addonce_load::wire::{left, reach, receive};
use addonce_load::{ENDS, MODPROBE, call, cannot_answer, json};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

/// A request is accepted within this time, the start of a daemon included, or modprobe does the work. Everything that may go
/// wrong before counts: a daemon that is stopped, a full queue of connections.
const ACCEPT: Duration = Duration::from_secs(5);
/// A hold has nobody else to turn to, and harms nobody while it waits.
const ACCEPT_HOLD: Duration = Duration::from_secs(30);
/// The daemon says at least every second that it lives. When it has not for so long while it holds, `hold` is taken away, so that udev runs
/// a program for each event again, which runs modprobe if need be.
const SILENCE: Duration = Duration::from_secs(5);
/// When it has not for so long, an accepted load is modprobe's. If it holds and a program started it, it is killed, and the next
/// one asks udev again for what it knew; a service has a watchdog.
const DEATH: Duration = Duration::from_secs(30);
/// A hold is renewed within seconds. udev kills a program after 180 s.
const LONGEST_HOLD: Duration = Duration::from_secs(170);
/// A daemon that dies with a request that it had accepted is replaced by another so many times.
const LIVES: u32 = 3;
/// The kernel passes an argument on only where there is a UUID (Documentation/ABI/testing/sysfs-uevent).
const HAND_BACK: &[u8] = b"add 00000000-0000-4000-8000-000000000000 ADDONCE=off";
/// Between two looks at whether somebody listens, at first. Doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let socket = addonce_load::socket();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match (arguments.as_slice(), variable("MODALIAS")) {
        ([argument], _) if argument == "--hold" => {
            if let Err(why) = (Question { socket, call: hold(), is_hold: true }).ask() {
                eprintln!("addonce-load: {why}: udev loads for all devices again");
                hand_back(Path::new("/sys"));
            }
            ExitCode::SUCCESS
        }
        ([], Some(alias)) => match (Question { socket, call: load(&alias), is_hold: false }).ask() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("addonce-load: {why}: loading with modprobe");
                let Err(error) = modprobe(&alias) else { return ExitCode::SUCCESS };
                eprintln!("addonce-load: modprobe: {error}");
                ExitCode::from(5)
            }
        },
        _ => {
            eprintln!(
                "addonce-load: there is no MODALIAS, or an argument that is not --hold: udev runs this for a device; \
                 by hand it is `addonce load`"
            );
            ExitCode::from(2)
        }
    }
}

/// What is to be answered.
struct Question {
    socket: PathBuf,
    call: Vec<u8>,
    /// It waits for the end of a hold, and else for the modules of a device.
    is_hold: bool,
}

/// What comes of a conversation.
#[derive(PartialEq, Eq)]
enum Said {
    /// The answer.
    Answer,
    /// The daemon is there and will not.
    Error,
    /// The daemon went, having accepted the request.
    Accepted,
    /// The daemon went, or said nothing before the deadline.
    Nothing,
}

impl Question {
    /// Waits until it is answered. The error says why nobody answers it.
    fn ask(&self) -> Result<(), String> {
        // The event of a hold is not broadcast before the daemon has answered us.
        let requester = seqnum().map(|seqnum| seqnum + u64::from(self.is_hold));
        let mut starter = Starter { requester, ..Starter::default() };
        // Whoever kills daemons need not let one of them come to writing another event.
        for _ in 0..if self.is_hold { u32::MAX } else { LIVES } {
            let mut deadline = Instant::now() + if self.is_hold { ACCEPT_HOLD } else { ACCEPT };
            let mut pause = PAUSE;
            loop {
                let cannot = cannot_answer(&self.socket);
                if let Some((pid, why)) = cannot.filter(|_| !self.is_hold) {
                    return Err(format!("the daemon, PID {pid}, {why}"));
                }
                // For the end of a hold there is nobody else to ask. One that ends leaves it to the next.
                if let Some((_, ENDS)) = cannot {
                    deadline = Instant::now() + ACCEPT_HOLD;
                    sleep(LONGEST_PAUSE);
                    continue;
                }
                match reach(&self.socket, deadline) {
                    Ok(stream) => {
                        (starter.turn, starter.child) = (None, None);
                        match self.converse(stream, deadline) {
                            Said::Answer => return Ok(()),
                            // It lives, and looks after its hold itself.
                            Said::Error if self.is_hold => return Ok(()),
                            Said::Error => return Err("addonce cannot".into()),
                            Said::Nothing => {}
                            // What it knew, the next one is told by us.
                            Said::Accepted => break,
                        }
                    }
                    Err(error) => match error.kind() {
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                            starter.start(&self.socket, self.is_hold)?;
                        }
                        // Its queue of connections is full.
                        ErrorKind::WouldBlock => {}
                        _ => return Err(format!("{}: {error}", self.socket.display())),
                    },
                }
                if Instant::now() + pause >= deadline {
                    return Err(format!("{}: nobody answers", self.socket.display()));
                }
                sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        Err("one daemon after the other was killed".into())
    }

    /// Calls, and waits for the answer: until the deadline for the first reply, and then for as long as the daemon says that it
    /// lives. A hold is accepted with the call, and its end is waited for in any case.
    fn converse(&self, mut stream: UnixStream, deadline: Instant) -> Said {
        let sent = left(deadline).and_then(|left| stream.set_write_timeout(Some(left)));
        if sent.and_then(|()| stream.write_all(&self.call)).is_err() {
            return Said::Nothing;
        }
        let longest = Instant::now() + LONGEST_HOLD;
        let mut read = Vec::new();
        let (mut heard, mut silence) = (Instant::now(), SILENCE);
        let mut gone = if self.is_hold { Said::Accepted } else { Said::Nothing };
        loop {
            let until = match (self.is_hold, &gone) {
                (true, _) => longest.min(heard + silence),
                (false, Said::Accepted) => heard + DEATH,
                (false, _) => deadline,
            };
            let reply = receive(&mut stream, &mut read, Some(until));
            match reply.map(|reply| String::from_utf8_lossy(&reply).into_owned()) {
                Ok(reply) if reply.contains("\"continues\":true") => {
                    (heard, silence, gone) = (Instant::now(), SILENCE, Said::Accepted);
                }
                Ok(reply) if is_error(&reply) => return Said::Error,
                Ok(_) => return Said::Answer,
                Err(error) if !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    return gone;
                }
                Err(_) if !self.is_hold => return Said::Nothing,
                Err(_) if Instant::now() >= longest => return gone,
                Err(_) if silence == SILENCE => {
                    silence = DEATH;
                    eprintln!(
                        "addonce-load: the daemon holds and has said nothing for {SILENCE:?}: it holds no more"
                    );
                    // By this name its successor finds it.
                    let [hold, released] =
                        ["hold", "hold.released"].map(|name| self.socket.with_file_name(name));
                    let _ = fs::rename(hold, released);
                }
                Err(_) => {
                    silence = LONGEST_HOLD;
                    if let Some(pid) = started_by_a_program(&stream) {
                        eprintln!(
                            "addonce-load: the daemon, PID {pid}, has said nothing for {DEATH:?}: it is killed"
                        );
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
            }
        }
    }
}

/// The daemon, unless a service manager listens for it: then it is that one's to kill.
fn started_by_a_program(stream: &UnixStream) -> Option<Pid> {
    let listener = getsockopt(stream, sockopt::PeerCredentials).ok()?.pid();
    let name = fs::read_to_string(format!("/proc/{listener}/comm")).ok()?;
    (name.trim_end() == "addonce").then(|| Pid::from_raw(listener))
}

/// Answers have fields of that name, too, but none with a dotted name.
fn is_error(reply: &str) -> bool {
    ["\"error\":\"org.varlink.service.", "\"error\":\"io.addonce."].iter().any(|error| reply.contains(error))
}

/// Starts the daemon.
#[derive(Default)]
struct Starter {
    /// One starts it, while others that find no daemon wait for it.
    turn: Option<Flock<File>>,
    child: Option<Child>,
    /// The SEQNUM from which on it is to expect events.
    requester: Option<u64>,
}

impl Starter {
    /// Starts a daemon, unless somebody does. The error says why there will be none; for a hold another one is started for one
    /// that was killed.
    fn start(&mut self, socket: &Path, is_hold: bool) -> Result<(), String> {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(Some(status)) if is_hold && status.signal() == Some(libc::SIGKILL) => self.child = None,
                Ok(Some(status)) if !status.success() => return Err(format!("addonce serve: {status}")),
                // It found another daemon, which has gone since; or it has gone itself.
                Ok(Some(_)) => self.child = None,
                _ => return Ok(()),
            }
        }
        if self.turn.is_none() {
            match turn(socket) {
                Ok(file) => self.turn = Some(file),
                Err(ErrorKind::WouldBlock) => return Ok(()),
                // Where no file can be made, the daemon will say what that means.
                Err(_) => {}
            }
        }
        // It is not ours when it has begun: it has a session of its own, and nothing of ours is open in it.
        let program =
            env::current_exe().map_or_else(|_| "addonce".into(), |path| path.with_file_name("addonce"));
        let mut serve = Command::new(&program);
        serve.arg("serve").arg("--socket").arg(socket);
        serve.envs(self.requester.map(|seqnum| ("SEQNUM", seqnum.to_string())));
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = serve.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        urge(&child);
        self.child = Some(child);
        Ok(())
    }
}

/// Gives the daemon the priority that its unit gives it. Every worker of udevd runs a program that waits for it to begin.
#[allow(unsafe_code)]
fn urge(daemon: &Child) {
    // SAFETY: takes three numbers. The child is not waited for yet, so it is this one. Without the right to it nothing changes.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, daemon.id(), -10) };
}

/// The right to start a daemon, for as long as the file is open here.
fn turn(socket: &Path) -> Result<Flock<File>, ErrorKind> {
    let path = socket.with_file_name("starting");
    if let Some(directory) = path.parent() {
        let _ = fs::DirBuilder::new().mode(0o755).create(directory);
    }
    // Nothing that is in the way, as a pipe is, is waited for.
    let nonblock = OFlag::O_NONBLOCK.bits();
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(nonblock).open(path);
    let file = file.map_err(|error| error.kind())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno).kind())
}

/// Runs modprobe. Its exit status is not passed on: most devices have no module, and udev would warn of each.
fn modprobe(alias: &[u8]) -> io::Result<()> {
    // The last is looked for in PATH.
    for program in MODPROBE.into_iter().chain(["modprobe"]) {
        let status = Command::new(program).args(["-b", "-q", "--"]).arg(OsStr::from_bytes(alias)).status();
        match status {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            status => return status.map(drop),
        }
    }
    Err(ErrorKind::NotFound.into())
}

/// Writes an event of each device with a MODALIAS, for which our rule has udev load by itself.
fn hand_back(sysfs: &Path) {
    for device in Scan::new(sysfs).flatten() {
        let uevent = sysfs.join(OsStr::from_bytes(&device.devpath[1..])).join("uevent");
        // One that fails is of a device that is gone.
        let _ = File::options().write(true).open(uevent).and_then(|mut file| file.write_all(HAND_BACK));
    }
}

/// `io.addonce.Load` for the event in the environment.
fn load(alias: &[u8]) -> Vec<u8> {
    let mut parameters = format!("\"alias\":{}", json(alias));
    if let Some(devpath) = variable("DEVPATH") {
        parameters += &format!(",\"devpath\":{}", json(&devpath));
    }
    if let Some(seqnum) = seqnum() {
        parameters += &format!(",\"seqnum\":{seqnum}");
    }
    let is_synthetic = variable("SYNTH_UUID").is_some();
    // By the daemon, after a loss.
    if variable("SYNTH_ARG_ADDONCE").is_some_and(|argument| argument == b"again") {
        parameters += ",\"again\":true";
    }
    call("Load", &format!("{parameters},\"synthetic\":{is_synthetic}"))
}

/// `io.addonce.Hold` for the event in the environment.
fn hold() -> Vec<u8> {
    let uuid = variable("SYNTH_UUID").map(|uuid| format!("\"uuid\":{}", json(&uuid)));
    call("Hold", &uuid.unwrap_or_default())
}

/// The number of the event that we were started for.
fn seqnum() -> Option<u64> {
    String::from_utf8(variable("SEQNUM")?).ok()?.parse().ok()
}

fn variable(name: &str) -> Option<Vec<u8>> {
    env::var_os(name).map(OsString::into_vec).filter(|value| !value.is_empty())
}
