// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest: a PC with many CPUs present and two of them running, under QEMU's software emulation.
//!
//! Owns the QEMU process and the files `console.log` and `raw.txt` of its run. It promises an end: a guest
//! that is not done within the time limit is killed, and QEMU dies with the lab. Two things are no finding, and the guest is
//! started again for them, up to three times in all: it dies or hangs before its init says a word (under emulation some
//! kernels panic now and then in early boot, and some stop right after sched_clock is marked stable), or QEMU itself is
//! killed by a signal (7.2 looks up a device's memory in a table that another of its threads has just replaced, and
//! takes a SIGSEGV in memory_region_access_valid): nothing that runs in a guest may do that. No other failure is retried.

use crate::debian;
use crate::image::{self, Image};
use crate::kernel::Kernel;
use crate::scenario::Scenario;
use crate::tools;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
const STARTS: u32 = 3;
/// From QEMU's start to init's first word: 13 s on an idle host with 64 CPUs, 20 s with 255.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// From the guest's last word to QEMU's end, which does not always come.
const SWITCH_OFF: Duration = Duration::from_secs(20);
const TAIL_BYTES: usize = 8192;
const TAIL_LINES: usize = 25;

/// What init writes first. Without it the guest did not get as far as the scenario.
const FIRST_WORD: &str = "@@init";

pub struct Guest {
    qemu: PathBuf,
    args: Vec<String>,
    dir: PathBuf,
    what: String,
    timeout: Duration,
}

enum End {
    PoweredOff,
    DiedBeforeInit,
    HungBeforeInit,
    TimedOut,
    /// QEMU was killed by this signal, whatever the guest was doing.
    Crashed(i32),
}

impl Guest {
    pub fn new(
        kernel: &Kernel,
        image: &Image,
        scenario: &Scenario,
        cpus: u32,
        timeout: Duration,
    ) -> Result<Self, String> {
        let what = format!("{}-{cpus}", scenario.name);
        let dir = image::run_dir(&what)?;
        let qemu = tools::find(QEMU)?;
        Ok(Self { qemu, args: arguments(&kernel.image, image, scenario, cpus), dir, what, timeout })
    }

    /// Runs the guest to its end and returns what its init wrote.
    pub fn run(&self) -> Result<String, String> {
        for start in 1..=STARTS {
            eprintln!("lab: starting guest {} (at most {} s)", self.what, self.timeout.as_secs());
            match self.once()? {
                End::PoweredOff => {
                    let text = tools::read(&self.raw())?;
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                End::TimedOut => {
                    let (what, limit) = (&self.what, self.timeout.as_secs());
                    return Err(format!(
                        "{what} was not done within {limit} s; a higher --timeout may help{}{}",
                        self.where_to_look(),
                        self.last_words()?
                    ));
                }
                End::DiedBeforeInit => eprintln!("lab: the guest died before its init ran (start {start})"),
                End::HungBeforeInit => {
                    let limit = BOOT_LIMIT.min(self.timeout).as_secs();
                    eprintln!("lab: the guest hung: no word of its init within {limit} s (start {start})");
                }
                End::Crashed(signal) => {
                    eprintln!("lab: {QEMU} itself was killed by signal {signal} (start {start})");
                }
            }
        }
        let (what, look) = (&self.what, self.where_to_look());
        Err(format!("{what} came to no end of its own in {STARTS} starts{look}{}", self.last_words()?))
    }

    pub fn where_to_look(&self) -> String {
        format!("; see {} and {}", self.console().display(), self.raw().display())
    }

    /// The end of what the kernel and init said: where the files are on a machine that is gone tomorrow, this is all
    /// that tells a guest that hung from one that was slow.
    fn last_words(&self) -> Result<String, String> {
        let mut words = String::new();
        for path in [self.console(), self.raw()] {
            let bytes = tools::read(&path)?;
            let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
            let lines: Vec<_> = text.lines().collect();
            words.push_str(&format!("\nlab: the end of {}:", path.display()));
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                words.push_str("\n    ");
                words.extend(line.chars().filter(|c| !c.is_control()));
            }
        }
        Ok(words)
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn raw(&self) -> PathBuf {
        self.dir.join("raw.txt")
    }

    fn init_ran(&self) -> Result<bool, String> {
        Ok(tools::read(&self.raw())?.windows(FIRST_WORD.len()).any(|window| window == FIRST_WORD.as_bytes()))
    }

    /// Whether the guest has said its last word, and only has to be switched off.
    fn is_over(&self) -> Result<bool, String> {
        let raw = tools::read(&self.raw())?;
        let tail = String::from_utf8_lossy(&raw[raw.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        Ok(tail.lines().any(|line| line.starts_with("@@done") || line.starts_with("@@fail")))
    }

    fn once(&self) -> Result<End, String> {
        // Whatever becomes of QEMU, what is read here was written by this start.
        for file in [self.console(), self.raw()] {
            tools::write(&file, "")?;
        }
        let log = |name: &str| {
            let path = self.dir.join(name);
            std::fs::File::create(&path).map_err(|e| format!("cannot create {}: {e}", path.display()))
        };
        // setpriv ties QEMU's life to the lab's: a lab that is killed leaves no guest behind.
        let mut qemu = Command::new(tools::find("setpriv")?)
            .args(["--pdeathsig", "KILL"])
            .arg(&self.qemu)
            .args(&self.args)
            .arg("-serial")
            .arg(format!("file:{}", self.console().display()))
            .arg("-serial")
            .arg(format!("file:{}", self.raw().display()))
            .stdin(Stdio::null())
            .stdout(log("qemu.log")?)
            .stderr(log("qemu.err")?)
            .spawn()
            .map_err(|e| format!("{QEMU}: {e}"))?;
        let began = Instant::now();
        let mut ended = wait(&mut qemu, began, BOOT_LIMIT.min(self.timeout), || Ok(false))?;
        if ended.is_none() && self.init_ran()? {
            ended = wait(&mut qemu, began, self.timeout, || self.is_over())?;
        }
        if ended.is_none() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
        match ended {
            None if self.is_over()? => {
                eprintln!("lab: QEMU went on after its guest had ended, and was killed");
                Ok(End::PoweredOff)
            }
            None if self.init_ran()? => Ok(End::TimedOut),
            None => Ok(End::HungBeforeInit),
            Some(status) if status.success() && self.init_ran()? => Ok(End::PoweredOff),
            Some(status) if status.success() => Ok(End::DiedBeforeInit),
            Some(status) => match status.signal() {
                Some(signal) => Ok(End::Crashed(signal)),
                None => Err(format!("{QEMU}: {status}: {}{}", self.complaint()?, self.where_to_look())),
            },
        }
    }

    /// What QEMU said, without its warnings: what it lacks of the CPU it plays is no news.
    fn complaint(&self) -> Result<String, String> {
        let said = tools::read(&self.dir.join("qemu.err"))?;
        let said = String::from_utf8_lossy(&said);
        Ok(said.lines().filter(|line| !line.contains(": warning: ")).collect::<Vec<_>>().join("; "))
    }
}

/// How the process ended, or nothing if it still runs when the time is up, or some time after it is over.
fn wait(
    child: &mut Child,
    began: Instant,
    limit: Duration,
    is_over: impl Fn() -> Result<bool, String>,
) -> Result<Option<ExitStatus>, String> {
    let mut told = began.elapsed().as_secs() / 30;
    let (mut looked, mut switched_off) = (Instant::now(), None);
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("{QEMU}: {e}"))? {
            return Ok(Some(status));
        }
        if looked.elapsed() >= Duration::from_secs(1) {
            looked = Instant::now();
            if switched_off.is_none() && is_over()? {
                switched_off = Some(began.elapsed() + SWITCH_OFF);
            }
        }
        let limit = switched_off.map_or(limit, |at| at.min(limit));
        let seconds = began.elapsed().as_secs();
        if began.elapsed() >= limit {
            return Ok(None);
        }
        if seconds / 30 > told {
            told = seconds / 30;
            eprintln!("lab: still running after {seconds} s");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn qemu_version() -> Result<String, String> {
    let text = tools::output(QEMU, &["--version"], Path::new("/"))?;
    Ok(text.lines().next().unwrap_or_default().trim_start_matches("QEMU emulator version ").to_string())
}

/// What a PC has beyond the board. Each brings devices that appear only after a first module came in: USB and
/// its HID behind the controller, virtio's devices behind virtio_pci, a disk behind virtio_blk. Two queues,
/// as a queue for each of 255 CPUs takes longer to set up than all the rest.
const DEVICES: [&str; 5] = [
    "qemu-xhci",
    "usb-tablet",
    "virtio-rng-pci",
    "virtio-net-pci,romfile=",
    "virtio-blk-pci,drive=disk,num-queues=2",
];

/// Only two CPUs are started, but all are present, each with its devices: a storm of any size for the price
/// of two. What a guest writes to its disk is gone with it.
fn arguments(kernel: &Path, image: &Image, scenario: &Scenario, cpus: u32) -> Vec<String> {
    let memory = if cpus <= 64 { "3G" } else { "6G" };
    let mut args: Vec<String> = ["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "Skylake-Server"]
        .into_iter()
        .chain(["-m", memory, "-nographic", "-monitor", "none", "-no-reboot"])
        .map(String::from)
        .collect();
    args.extend(["-smp".into(), cpus.to_string()]);
    // No default network card, whose boot ROM would only cost time.
    args.extend(["-nic", "none"].map(String::from));
    let mut append = String::from("console=ttyS0 panic=-1 maxcpus=2");
    if let Some(disk) = &image.disk {
        let file = disk.display();
        args.push("-drive".into());
        args.push(format!("id=disk,if=none,format=raw,snapshot=on,cache=unsafe,file={file}"));
        append.push_str(&format!(" rdinit=/lab-init root=LABEL={}", debian::LABEL));
    } else {
        // Zeros do.
        args.push("-blockdev".into());
        args.push("driver=null-co,node-name=disk,size=67108864,read-zeroes=on".into());
    }
    let devices = DEVICES.into_iter().chain(scenario.devices.iter().map(String::as_str));
    args.extend(devices.flat_map(|device| ["-device".into(), device.to_string()]));
    args.extend([
        "-kernel".into(),
        kernel.display().to_string(),
        "-initrd".into(),
        image.path.display().to_string(),
    ]);
    for word in &scenario.kernel_words {
        append.push_str(&format!(" {word}"));
    }
    args.extend(["-append".into(), append]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A guest whose QEMU is a shell script: `$start` counts its starts from 1, `$raw` is the result's file.
    fn guest(name: &str, script: &str) -> Guest {
        let dir = std::env::temp_dir().join(format!("addonce-lab-{name}-{}", std::process::id()));
        let qemu = dir.join("qemu");
        let prologue = "#!/bin/sh\nfor raw; do :; done\nraw=${raw#file:}\necho >>$0.starts\n\
                        start=$(grep -c '' $0.starts)\n";
        tools::write(&qemu, format!("{prologue}{script}\n")).expect("script");
        std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).expect("mode");
        Guest { qemu, args: Vec::new(), dir, what: name.into(), timeout: Duration::from_secs(20) }
    }

    fn end_of(guest: Guest) -> Result<String, String> {
        let end = guest.run();
        std::fs::remove_dir_all(&guest.dir).expect("removed");
        end
    }

    #[test]
    fn a_crash_of_qemu_is_not_the_guests_answer() {
        let crashes_once = "echo @@init >$raw; [ $start -gt 1 ] || kill -SEGV $$; echo @@done >>$raw";
        assert_eq!(end_of(guest("crash", crashes_once)), Ok("@@init\n@@done\n".into()));
        let error = end_of(guest("crashes", "kill -SEGV $$")).unwrap_err();
        assert!(error.starts_with("crashes came to no end of its own in 3 starts; see "), "{error}");
    }

    #[test]
    fn a_guest_that_died_before_its_init_is_started_again() {
        let second = "[ $start -eq 1 ] || echo @@init >$raw";
        assert_eq!(end_of(guest("dead", second)), Ok("@@init\n".into()));
    }

    #[test]
    fn a_guest_that_has_said_its_last_word_is_over_though_qemu_goes_on() {
        let hangs = |words: &str| {
            let script = format!("echo @@init >$raw; echo {words} >>$raw; exec sleep 60");
            Guest { timeout: Duration::from_secs(2), ..guest("hangs", &script) }
        };
        assert_eq!(end_of(hangs("@@done")), Ok("@@init\n@@done\n".into()));
        assert!(end_of(hangs("@@mark")).unwrap_err().contains("not done within 2 s"));
    }

    #[test]
    fn what_qemu_refuses_is_said_once_and_without_its_warnings() {
        let refuses = "echo 'qemu: warning: no AVX' >&2; echo 'qemu: no such machine' >&2; exit 1";
        let error = end_of(guest("refused", refuses)).unwrap_err();
        assert!(
            error.starts_with("qemu-system-x86_64: exit status: 1: qemu: no such machine; see "),
            "{error}"
        );
    }
}
