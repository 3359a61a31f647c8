// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Proc: what the kernel says of a process

use std::fs;

/// A row of /proc/net/netlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UeventSocket {
    /// Its address.
    pub port: u32,
    /// Datagrams that the kernel could not queue.
    pub drops: u64,
}

/// The uevent socket that a process of this network namespace listens at.
pub fn uevent_socket(process: u32) -> UeventSocket {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("fd").flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/netlink").expect("/proc/net/netlink");
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode; 15 is NETLINK_KOBJECT_UEVENT.
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows
        .filter(|row| row.len() == 10 && row[1] == "15" && row[3].ends_with('3'))
        .find(|row| inodes.iter().any(|inode| inode == row[9]))
        .unwrap_or_else(|| panic!("{process} has no uevent socket: {table}"));
    UeventSocket { port: row[2].parse().expect("a port"), drops: row[8].parse().expect("a number") }
}

/// The most memory a process ever had, in KiB, programs and mapped files included.
pub fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
