// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Captures: real storms, replayed
//!
//! A case is three files in tests/captures: NAME.capture as `addonce record` wrote it, NAME.world with the modules and
//! the kernel's answers to go with it (`addonce replay --world`), and NAME.expected, what the replay prints; to
//! add one is to add files. `ADDONCE_BLESS=1 cargo test --test captures` writes NAME.expected anew, to be looked at.
//!
//! Captures are plain text and are kept so: the modaliases that make them long are all alike, and git packs them to a
//! few per cent. A record is a paragraph, so what no module is looked up for can be left out by
//! `awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1 || /\nMODALIAS=|@\/module\//'`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::running::addonce;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = fs::read_dir(folder).expect("tests/captures").flatten().map(|entry| entry.path());
    let mut cases: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "capture")).collect();
    cases.sort();
    cases
}

#[test]
fn a_recorded_storm_comes_to_what_is_expected() {
    let cases = cases();
    assert!(!cases.is_empty());
    for case in cases {
        let [world, expected] = ["world", "expected"].map(|extension| case.with_extension(extension));
        let output = addonce()
            .arg("replay")
            .arg(&case)
            .arg("--world")
            .arg(&world)
            .arg("--jobs=4")
            .output()
            .expect("addonce");
        assert!(output.status.success(), "{output:?}");
        if std::env::var_os("ADDONCE_BLESS").is_some() {
            fs::write(&expected, &output.stdout).expect("write");
        }
        let wanted =
            fs::read_to_string(&expected).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
        let is = String::from_utf8_lossy(&output.stdout);
        assert!(is == wanted, "{}: this is not what was expected:\n{is}", expected.display());
    }
}

/// The rule that all of this is about, whatever is expected of the single case.
#[test]
fn no_module_comes_in_twice() {
    for case in cases() {
        let world = case.with_extension("world");
        let output = addonce().arg("replay").arg(&case).arg("--json").arg("--world").arg(&world).output();
        let replay: serde_json::Value =
            serde_json::from_slice(&output.expect("addonce").stdout).expect("JSON");
        let landings = replay["add_once"].as_array().expect("landings");
        let live = landings.iter().filter(|landing| landing["outcome"] == "live");
        let mut modules: Vec<&str> =
            live.map(|landing| landing["module"].as_str().expect("a name")).collect();
        modules.sort_unstable();
        assert!(!modules.is_empty() && modules.is_sorted_by(|one, next| one < next), "{}", case.display());
    }
}
