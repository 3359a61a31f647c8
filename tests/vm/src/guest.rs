// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest: a PC with many CPUs present and two of them running, under QEMU's software emulation.
//!
//! Owns the QEMU process and the files `console.log` and `raw.txt` of its run. It promises an end: a guest
//! that is not done within the time limit is killed, and QEMU dies with the lab. A guest that dies before its
//! init says a word is started again, up to three times (some kernels panic now and then in early boot under
//! emulation); no other failure is retried, because it may be a finding.

use crate::image::{self, Image};
use crate::kernel::Kernel;
use crate::scenario::Scenario;
use crate::tools;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
const STARTS: u32 = 3;

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
        Ok(Self { args: arguments(&kernel.image, &image.path, cpus), dir, what, timeout })
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
                    let look = self.where_to_look();
                    return Err(format!(
                        "{what} was not done within {limit} s; a higher --timeout may help{look}"
                    ));
                }
                End::DiedBeforeInit if start < STARTS => {
                    eprintln!("lab: the guest died before its init ran; starting it again");
                }
                End::DiedBeforeInit => {}
            }
        }
        Err(format!("{} died {STARTS} times before its init ran{}", self.what, self.where_to_look()))
    }

    pub fn where_to_look(&self) -> String {
        format!("; see {} and {}", self.console().display(), self.raw().display())
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn raw(&self) -> PathBuf {
        self.dir.join("raw.txt")
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
        let ended = wait(&mut qemu, self.timeout)?;
        let began = tools::read(&self.raw())?.windows(FIRST_WORD.len()).any(|w| w == FIRST_WORD.as_bytes());
        match ended {
            None => Ok(End::TimedOut),
            Some(false) => {
                let said =
                    String::from_utf8_lossy(&tools::read(&self.dir.join("qemu.err"))?).trim().to_string();
                Err(format!("{QEMU} failed: {said}{}", self.where_to_look()))
            }
            Some(true) if began => Ok(End::PoweredOff),
            Some(true) => Ok(End::DiedBeforeInit),
        }
    }
}

/// Whether the process succeeded, or nothing if the time was up and it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<bool>, String> {
    let began = Instant::now();
    let mut told = 0;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("{QEMU}: {e}"))? {
            return Ok(Some(status.success()));
        }
        let seconds = began.elapsed().as_secs();
        if began.elapsed() >= limit {
            let _ = child.kill();
            let _ = child.wait();
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
/// of two.
fn arguments(kernel: &Path, image: &Path, cpus: u32) -> Vec<String> {
    let memory = if cpus <= 64 { "3G" } else { "6G" };
    let mut args: Vec<String> = ["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "Skylake-Server"]
        .into_iter()
        .chain(["-m", memory, "-nographic", "-monitor", "none", "-no-reboot"])
        .map(String::from)
        .collect();
    args.extend(["-smp".into(), cpus.to_string()]);
    // No default network card, whose boot ROM would only cost time; no disk image, zeros do.
    args.extend(
        ["-nic", "none", "-blockdev", "driver=null-co,node-name=disk,size=67108864,read-zeroes=on"]
            .map(String::from),
    );
    args.extend(DEVICES.iter().flat_map(|device| ["-device".into(), device.to_string()]));
    args.extend([
        "-kernel".into(),
        kernel.display().to_string(),
        "-initrd".into(),
        image.display().to_string(),
    ]);
    args.extend(["-append".into(), "console=ttyS0 panic=-1 maxcpus=2".into()]);
    args
}
