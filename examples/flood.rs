// SPDX-License-Identifier: MIT OR Apache-2.0
//! Floods the uevent socket of the current network namespace, as tests and benchmarks do:
//!
//! ```text
//! unshare -Urn sh -c 'addonce daemon --dry-run & sleep 1; cargo run --example flood hostile 100000; addonce status'
//! ```

use std::process::ExitCode;
use std::time::Instant;

#[path = "../tests/common/flood.rs"]
#[allow(dead_code)]
mod flood;
#[path = "../tests/common/sender.rs"]
mod sender;

use flood::Flood;

const USAGE: &str = "usage: flood cpus|hostile COUNT, inside `unshare -Urn`";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count] = &arguments[..] else { return Err(USAGE.into()) };
    let flood = match kind.as_str() {
        "cpus" => Flood::Cpus,
        "hostile" => Flood::Hostile,
        _ => return Err(USAGE.into()),
    };
    // In the machine's own namespace udev would take it for hardware.
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    if map.split_whitespace().last() == Some("4294967295") {
        return Err(
            "this is the machine's own namespace, where udev listens: run it inside `unshare -Urn`".into()
        );
    }
    let (count, start) = (count.parse()?, Instant::now());
    flood.inject(0..count)?;
    println!("{count} uevents in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
