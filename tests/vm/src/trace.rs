// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's trace, read into insert calls: which module, by which program, with which errno.
//!
//! Owns the text format of tracefs as far as the events of `guest/measure.sh` go. An insert call names no module,
//! it has a descriptor or a buffer; so the last `*.ko` file the same thread opened before is what the call is
//! for. That holds for kmod, busybox, udev and addonce, which all open, insert and close in one thread. It
//! promises that a call it cannot give a name is an error, and that a call which never returned is counted as
//! such. What a scenario wrote to trace_marker, "lab: TEXT", stands between the calls before and after it, and so does
//! that PID 1 became another program: the last time it does is when the root file system's init takes over. Starts of
//! addonce's own programs are counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug, PartialEq)]
pub struct Call {
    pub module: String,
    /// The name of the thread when it opened the module.
    pub caller: String,
    /// 0 for success; nothing if the call had not returned when the trace ended.
    pub errno: Option<i32>,
    /// When it began, in seconds of the trace's clock.
    pub called: f64,
    /// When it returned.
    pub returned: Option<f64>,
}

/// addonce names each loading process after its module, "+MODULE".
pub fn by_addonce(call: &Call) -> bool {
    call.caller.starts_with('+')
}

#[derive(Debug, PartialEq)]
pub struct Mark {
    pub text: String,
    pub at: f64,
    /// How many calls had begun.
    pub calls: usize,
}

#[derive(Debug, Default)]
pub struct Trace {
    pub calls: Vec<Call>,
    /// Every module file that somebody opened or tried to open.
    pub opened: BTreeSet<String>,
    pub marks: Vec<Mark>,
    /// The programs that PID 1 became.
    pub inits: Vec<Mark>,
    /// How often each program of addonce's was started, by its name; of a boot, until it had settled.
    pub programs: BTreeMap<String, u32>,
}

impl Trace {
    /// When a boot had settled.
    pub fn booted(&self) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.text == "booted")
    }
}

#[derive(Default)]
struct Thread {
    /// The name it had then, and the file.
    last_opened: Option<(String, String)>,
    /// The index of the call this thread is in.
    in_call: Option<usize>,
}

enum Event<'a> {
    Opened { by: &'a str, path: &'a str },
    Entered,
    Returned(i64),
    Marked(&'a str),
    Executed { program: &'a str, pid: u32 },
    Other,
}

pub fn parse(text: &str) -> Result<Trace, String> {
    let mut trace = Trace::default();
    let mut threads: HashMap<u32, Thread> = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (id, at, what) = split(line).ok_or(format!("a trace line nobody can read: {line}"))?;
        let thread = threads.entry(id).or_default();
        match event(what).ok_or(format!("a trace event nobody can read: {line}"))? {
            Event::Opened { by, path } => {
                trace.opened.insert(path.into());
                thread.last_opened = Some((by.into(), path.into()));
            }
            Event::Entered => {
                let opened = thread.last_opened.as_ref();
                let (by, path) =
                    opened.ok_or(format!("an insert call by a thread that opened no module: {line}"))?;
                thread.in_call = Some(trace.calls.len());
                let (module, caller) = (module_name(path), by.clone());
                trace.calls.push(Call { module, caller, errno: None, called: at, returned: None });
            }
            Event::Returned(value) => {
                // The call may have begun before the trace did.
                if let Some(index) = thread.in_call.take() {
                    let call = &mut trace.calls[index];
                    call.errno = Some(i32::try_from(-value).map_err(|e| format!("{line}: {e}"))?);
                    call.returned = Some(at);
                }
            }
            Event::Marked(text) => {
                trace.marks.push(Mark { text: text.into(), at, calls: trace.calls.len() });
            }
            Event::Executed { program, pid: 1 } => {
                trace.inits.push(Mark { text: program.into(), at, calls: trace.calls.len() });
            }
            Event::Executed { program, .. } if trace.booted().is_none() => {
                let name = program.rsplit('/').next().unwrap_or(program);
                *trace.programs.entry(name.into()).or_default() += 1;
            }
            Event::Executed { .. } | Event::Other => {}
        }
    }
    Ok(trace)
}

/// `  (udev-worker)-123     [001] ...1.    12.345678: what`: the thread's number, when, and what it did. The name is one that the
/// kernel may have missed.
fn split(line: &str) -> Option<(u32, f64, &str)> {
    let (task, rest) = line.split_once(" [")?;
    let (_, id) = task.trim().rsplit_once('-')?;
    let (_, what) = rest.split_once("] ")?;
    let (flags_and_time, what) = what.split_once(": ")?;
    let at = flags_and_time.split_whitespace().last()?;
    Some((id.parse().ok()?, at.parse().ok()?, what.trim()))
}

fn event(what: &str) -> Option<Event<'_>> {
    if what.starts_with("ko_open:") {
        let (_, opened) = what.split_once("by=\"")?;
        let (by, path) = opened.split_once("\" file=\"")?;
        return Some(Event::Opened { by, path: path.strip_suffix('"')? });
    }
    if let Some(text) = what.strip_prefix("tracing_mark_write: lab: ") {
        return Some(Event::Marked(text));
    }
    if let Some(rest) = what.strip_prefix("sched_process_exec: filename=") {
        let (program, rest) = rest.split_once(" pid=")?;
        return Some(Event::Executed { program, pid: rest.split_once(' ')?.0.parse().ok()? });
    }
    let insert = ["sys_finit_module", "sys_init_module"].iter().find_map(|name| what.strip_prefix(name));
    Some(match insert {
        Some(rest) if rest.starts_with('(') => Event::Entered,
        Some(rest) => Event::Returned(returned(rest.trim().strip_prefix("->")?.trim())?),
        None => Event::Other,
    })
}

/// Return values are printed as unsigned hexadecimal: -EEXIST is 0xffffffffffffffef.
fn returned(text: &str) -> Option<i64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(|value| value as i64)
}

/// The name the kernel knows the module by: the file's, without directories and endings, dashes as
/// underscores.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The names of the errnos a module loader meets; others by number.
pub fn errno_name(errno: Option<i32>) -> String {
    let name = match errno {
        None => "unfinished",
        Some(0) => "0",
        Some(1) => "EPERM",
        Some(2) => "ENOENT",
        Some(4) => "EINTR",
        Some(5) => "EIO",
        Some(6) => "ENXIO",
        Some(8) => "ENOEXEC",
        Some(11) => "EAGAIN",
        Some(12) => "ENOMEM",
        Some(13) => "EACCES",
        Some(14) => "EFAULT",
        Some(16) => "EBUSY",
        Some(17) => "EEXIST",
        Some(19) => "ENODEV",
        Some(22) => "EINVAL",
        Some(26) => "ETXTBSY",
        Some(38) => "ENOSYS",
        Some(95) => "EOPNOTSUPP",
        Some(110) => "ETIMEDOUT",
        Some(126) => "ENOKEY",
        Some(129) => "EKEYREJECTED",
        Some(other) => return format!("errno {other}"),
    };
    name.into()
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
