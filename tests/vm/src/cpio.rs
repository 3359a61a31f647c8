// SPDX-License-Identifier: MIT OR Apache-2.0
//! Initramfs archives: cpio in the "newc" format, written as the kernel's unpacker reads it.
//!
//! Owns one archive being written, zstd-compressed on its way to the file. It promises the same bytes for the
//! same entries (no times, no owners but root), and needs neither root nor a copy of the files in a staging
//! tree. The kernel unpacks archives that are laid end to end, a later file replacing an earlier one, so a
//! guest's image is joined from cached archives. Bounded by the format: 4 GiB a file.

use crate::tools;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

pub struct Archive {
    /// Where the compressed archive goes, under a name of its own until it is whole.
    partial: PathBuf,
    path: PathBuf,
    zstd: Child,
    /// Closed, and so gone, once the archive is finished.
    to_zstd: Option<BufWriter<ChildStdin>>,
    /// Directories already written: the format wants each before what is in it.
    dirs: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    pub fn create(path: &Path) -> Result<Self, String> {
        let partial = path.with_extension(format!("partial.{}", std::process::id()));
        let file = File::create(&partial).map_err(|e| format!("cannot create {}: {e}", partial.display()))?;
        let mut zstd = Command::new(tools::find("zstd")?)
            .args(["-1", "--quiet", "-T0", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .map_err(|e| format!("zstd: {e}"))?;
        let to_zstd = BufWriter::with_capacity(1 << 16, zstd.stdin.take().ok_or("zstd has no stdin")?);
        Ok(Self {
            partial,
            path: path.into(),
            zstd,
            to_zstd: Some(to_zstd),
            dirs: BTreeSet::new(),
            entries: 0,
        })
    }

    pub fn dir(&mut self, name: &str) -> Result<(), String> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.dir(parent)?;
        }
        if name.is_empty() || !self.dirs.insert(name.into()) {
            return Ok(());
        }
        self.entry(name, DIR | 0o755, &[])
    }

    pub fn link(&mut self, name: &str, target: &str) -> Result<(), String> {
        self.parent(name)?;
        self.entry(name, LINK | 0o777, target.as_bytes())
    }

    pub fn bytes(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<(), String> {
        self.parent(name)?;
        self.entry(name, FILE | mode, contents)
    }

    /// A file of the host, links followed, its mode kept.
    pub fn file(&mut self, name: &str, from: &Path) -> Result<(), String> {
        let meta = std::fs::metadata(from).map_err(|e| format!("cannot read {}: {e}", from.display()))?;
        self.bytes(name, meta.permissions().mode() & 0o7777, &tools::read(from)?)
    }

    /// A directory of the host with all in it; `wanted` may leave out files and whole directories.
    pub fn tree(&mut self, name: &str, from: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), String> {
        self.dir(name)?;
        for child in tools::names(from)? {
            let (inside, path) = (format!("{name}/{child}"), from.join(&child));
            let inside = inside.trim_start_matches('/');
            if !wanted(inside) {
                continue;
            }
            if path.is_dir() {
                self.tree(inside, &path, wanted)?;
            } else if path.exists() {
                self.file(inside, &path)?;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), String> {
        self.entry("TRAILER!!!", 0, &[])?;
        // Dropping the pipe tells zstd that this was all.
        let flushed = self.to_zstd.take().map_or(Ok(()), |mut pipe| pipe.flush());
        let status = self.zstd.wait().map_err(|e| format!("zstd: {e}"))?;
        if flushed.is_err() || !status.success() {
            return Err(format!(
                "zstd could not write {}: {status}; is the disk full?",
                self.partial.display()
            ));
        }
        std::fs::rename(&self.partial, &self.path)
            .map_err(|e| format!("cannot write {}: {e}", self.path.display()))
    }

    fn parent(&mut self, name: &str) -> Result<(), String> {
        name.rsplit_once('/').map_or(Ok(()), |(parent, _)| self.dir(parent))
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<(), String> {
        self.entries += 1;
        let head = header(self.entries, name, mode, contents.len())?;
        let pipe = self.to_zstd.as_mut().ok_or("the archive is finished")?;
        [head.as_slice(), contents, padding(contents.len())]
            .iter()
            .try_for_each(|part| pipe.write_all(part))
            .map_err(|e| format!("cannot write {name} to {}: {e}", self.partial.display()))
    }
}

impl Drop for Archive {
    /// An archive given up halfway leaves neither a process nor a file behind.
    fn drop(&mut self) {
        if self.to_zstd.take().is_some() {
            let _ = self.zstd.wait();
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Magic, thirteen numbers of eight hexadecimal digits, the name with its NUL, padded to four bytes.
fn header(inode: u32, name: &str, mode: u32, size: usize) -> Result<Vec<u8>, String> {
    let size = u32::try_from(size).map_err(|_| format!("{name} is too big for an initramfs"))?;
    let links = if mode & 0o170_000 == DIR { 2 } else { 1 };
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    let mut head = b"070701".to_vec();
    for field in fields {
        head.extend(format!("{field:08x}").bytes());
    }
    head.extend(name.bytes());
    head.push(0);
    head.extend(padding(head.len()));
    Ok(head)
}

fn padding(length: usize) -> &'static [u8] {
    &[0; 3][..length.wrapping_neg() % 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_entry_ends_on_a_multiple_of_four_bytes() {
        for length in 0..9 {
            assert_eq!((length + padding(length).len()) % 4, 0);
            let head = header(1, &"n".repeat(length), FILE | 0o644, 5).unwrap();
            assert_eq!(head.len() % 4, 0);
        }
    }

    #[test]
    fn a_header_carries_mode_size_and_the_length_of_the_name() {
        let head = String::from_utf8(header(7, "init", FILE | 0o755, 0x1234).unwrap()).unwrap();
        assert!(head.starts_with("07070100000007000081ed"));
        assert_eq!(&head[54..62], "00001234");
        assert_eq!(&head[94..102], "00000005");
        assert_eq!(&head[110..115], "init\0");
    }
}
