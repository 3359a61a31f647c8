// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest: a PC with many CPUs present and two of them running, under QEMU's software emulation.
//!
//! Owns the QEMU process and the files `console.log` and `raw.txt` of its run. It promises an end: a guest
//! that is not done within the time limit is killed, and QEMU dies with the lab. A guest that dies or hangs before its
//! init says a word is started again, up to three times (under emulation some kernels panic now and then in early
//! boot, and some stop right after sched_clock is marked stable); no other failure is retried, because it may be a
//! finding.

use crate::debian;
use crate::image::{self, Image};
use crate::kernel::Kernel;
use crate::scenario::Scenario;
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
const STARTS: u32 = 3;
/// From QEMU's start to init's first word: 13 s on an idle host with 64 CPUs, 20 s with 255.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
const TAIL_BYTES: usize = 8192;
const TAIL_LINES: usize = 25;

/// What init writes first. Without it the guest did not get as far as the scenario.
const FIRST_WORD: &str = "@@init";

pub struct Guest {
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
        Ok(Self { args: arguments(&kernel.image, image, cpus), dir, what, timeout })
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
            }
        }
        let (what, look) = (&self.what, self.where_to_look());
        Err(format!("{what} did not get as far as its init in {STARTS} starts{look}{}", self.last_words()?))
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

    fn once(&self) -> Result<End, String> {
        tools::write(&self.raw(), "")?;
        let log = |name: &str| {
            let path = self.dir.join(name);
            std::fs::File::create(&path).map_err(|e| format!("cannot create {}: {e}", path.display()))
        };
        // setpriv ties QEMU's life to the lab's: a lab that is killed leaves no guest behind.
        let mut qemu = Command::new(tools::find("setpriv")?)
            .args(["--pdeathsig", "KILL"])
            .arg(tools::find(QEMU)?)
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
        let mut ended = wait(&mut qemu, began, BOOT_LIMIT.min(self.timeout))?;
        if ended.is_none() && self.init_ran()? {
            ended = wait(&mut qemu, began, self.timeout)?;
        }
        if ended.is_none() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
        match ended {
            None if self.init_ran()? => Ok(End::TimedOut),
            None => Ok(End::HungBeforeInit),
            Some(false) => {
                let said =
                    String::from_utf8_lossy(&tools::read(&self.dir.join("qemu.err"))?).trim().to_string();
                Err(format!("{QEMU} failed: {said}{}", self.where_to_look()))
            }
            Some(true) if self.init_ran()? => Ok(End::PoweredOff),
            Some(true) => Ok(End::DiedBeforeInit),
        }
    }
}

/// Whether the process succeeded, or nothing if it still runs when the time is up.
fn wait(child: &mut Child, began: Instant, limit: Duration) -> Result<Option<bool>, String> {
    let mut told = began.elapsed().as_secs() / 30;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("{QEMU}: {e}"))? {
            return Ok(Some(status.success()));
        }
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
fn arguments(kernel: &Path, image: &Image, cpus: u32) -> Vec<String> {
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
    args.extend(DEVICES.iter().flat_map(|device| ["-device".into(), device.to_string()]));
    args.extend([
        "-kernel".into(),
        kernel.display().to_string(),
        "-initrd".into(),
        image.path.display().to_string(),
    ]);
    args.extend(["-append".into(), append]);
    args
}
