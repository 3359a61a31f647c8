// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Distribution: a whole kernel's modules, and every question that its indexes hold

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use addonce::kmod::Tree;

use crate::common::left_out::left_out;
use crate::common::tool::have;

/// The newest tree of a distribution's kernel that the guest lab has here: a directory with lib/modules/VERSION, through
/// depmod. Where there is none the test is left out.
pub fn tree() -> Option<Tree> {
    if !have(&["modprobe"]) {
        return None;
    }
    let lab = std::env::var_os("LAB_DIR").map(PathBuf::from);
    let lab = lab.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab"));
    let kernels = fs::read_dir(lab.join("kernels")).into_iter().flatten().flatten();
    // What begins with a dot is being made, or was not finished.
    let whole = kernels.filter(|kernel| !kernel.file_name().as_encoded_bytes().starts_with(b"."));
    let trees = whole.map(|kernel| kernel.path().join("tree"));
    let unpacked =
        |tree: &PathBuf| fs::metadata(tree.join("lib/modules")).and_then(|dir| dir.modified()).ok();
    let Some(root) = trees.filter(|tree| unpacked(tree).is_some()).max_by_key(unpacked) else {
        left_out(
            "no kernel's modules are here to compare with modprobe: `make lab && target/debug/lab tree` fetches them",
        );
        return None;
    };
    let modules_dir = root.join("lib/modules");
    let entries =
        fs::read_dir(&modules_dir).unwrap_or_else(|error| panic!("{}: {error}", modules_dir.display()));
    let versions = entries.flatten().filter(|entry| entry.path().join("modules.dep.bin").exists());
    let version = versions.map(|entry| entry.file_name()).max().expect("a version that depmod has seen");
    let kernel = version.to_str().expect("UTF-8").to_owned();
    // Named, not left to libkmod: modprobe is given the same list, and a mark beside.
    Some(Tree { modules_dir, kernel, sysfs: "/sys".into(), config: Vec::new() })
}

/// The names of all modules of modules.dep and modules.builtin.
pub fn module_names(directory: &Path) -> Vec<Vec<u8>> {
    let dep = fs::read_to_string(directory.join("modules.dep")).expect("modules.dep");
    let paths = dep.lines().filter_map(|line| line.split_once(':')).map(|(path, _)| path);
    let builtin = fs::read_to_string(directory.join("modules.builtin")).expect("modules.builtin");
    let names: BTreeSet<Vec<u8>> = paths.chain(builtin.lines()).map(name_of).collect();
    names.into_iter().collect()
}

fn name_of(path: &str) -> Vec<u8> {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_").into_bytes()
}

/// Two strings for every pattern of modules.alias (the shortest that matches, and one with something in the place of
/// every star), and every symbol. Sorted, each once.
pub fn aliases(directory: &Path) -> Vec<Vec<u8>> {
    let mut aliases = BTreeSet::new();
    for index in ["modules.alias", "modules.symbols"] {
        let text = fs::read(directory.join(index)).expect(index);
        for line in text.split(|&byte| byte == b'\n') {
            let Some(rest) = line.strip_prefix(b"alias ") else { continue };
            // The module is the last word: patterns may contain blanks.
            let end = rest.iter().rposition(|&byte| byte == b' ').expect("alias PATTERN MODULE");
            aliases.insert(concrete(&rest[..end], b""));
            aliases.insert(concrete(&rest[..end], b"x7"));
        }
    }
    aliases.into_iter().collect()
}

/// A string that the pattern matches: something for `*`, a letter for `?`, the first member for `[...]`.
pub fn concrete(pattern: &[u8], star: &[u8]) -> Vec<u8> {
    let (mut string, mut rest) = (Vec::new(), pattern);
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'*' => string.extend_from_slice(star),
            b'?' => string.push(b'q'),
            b'[' => {
                let close = tail.iter().position(|&byte| byte == b']').expect("a closing bracket");
                string.push(tail[0]);
                rest = &tail[close + 1..];
            }
            byte => string.push(*byte),
        }
    }
    string
}
