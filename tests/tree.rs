// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose modules are meant, where that is not this machine.

use std::path::Path;

use addonce::kmod::{Resolver, Tree};

fn tree(modules_dir: &Path, sysfs: &Path) -> Tree {
    Tree { modules_dir: modules_dir.into(), kernel: "6.1.0".into(), sysfs: sysfs.into(), config: Vec::new() }
}

#[test]
fn a_tree_without_indexes_is_refused_with_the_path_and_the_way_out() {
    let root = tempfile::tempdir().expect("tempdir");
    let tree = tree(root.path(), Path::new("/sys"));
    let error = Resolver::open(tree).err().expect("refused").to_string();
    assert!(error.starts_with(&format!("{}/6.1.0/modules.dep.bin: ", root.path().display())), "{error}");
    assert!(
        error.ends_with("run `depmod 6.1.0`, or name another tree with --kernel or --modules-dir"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn paths_below_sys_follow_the_tree_and_others_do_not() {
    let tree = tree(Path::new("/lib/modules"), Path::new("/tmp/sys"));
    assert_eq!(tree.in_sysfs(Path::new("/sys/module/kvm")), Path::new("/tmp/sys/module/kvm"));
    assert_eq!(tree.in_sysfs(Path::new("/system")), Path::new("/system"));
}
