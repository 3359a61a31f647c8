// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures: what is written reads back, and real storms, replayed.
//!
//! A case is three files in tests/captures: NAME.capture as `addonce record` wrote it, NAME.world with the modules and
//! the kernel's answers to go with it (common/fake.rs), and NAME.expected, what `addonce replay` would print of that; to
//! add one is to add files. `ADDONCE_BLESS=1 cargo test --test captures` writes NAME.expected anew, to be looked at.
//!
//! Captures are plain text and are kept so: the modaliases that make them long are all alike, and git packs them to a
//! few per cent. A record is a line, so what no module is looked up for can be left out by
//! `awk 'NR == 1 || / MODALIAS=|@\/module\//'`.

mod common;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use addonce::cli::replay::{page, replay};
use addonce::once::{InitState, Limits, Modules, Name};
use addonce::uevent::capture::{LONGEST, Reader, Record, Writer};
use common::fake::FakeModules;
use proptest::prelude::*;
use serde_json::Value;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = fs::read_dir(folder).expect("tests/captures").flatten().map(|entry| entry.path());
    let mut cases: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "capture")).collect();
    cases.sort();
    cases
}

fn replayed(case: &Path) -> Value {
    let world = fs::read_to_string(case.with_extension("world")).expect("a world");
    let world = FakeModules::parse(&world).expect("a declaration");
    let capture = BufReader::new(File::open(case).expect("a capture"));
    replay(capture, world, Limits { jobs: 4, ..Limits::default() }).expect("a capture")
}

#[test]
fn a_recorded_storm_comes_to_what_is_expected() {
    let cases = cases();
    assert!(!cases.is_empty());
    for case in cases {
        let expected = case.with_extension("expected");
        let is = page(&replayed(&case));
        if std::env::var_os("ADDONCE_BLESS").is_some() {
            fs::write(&expected, &is).expect("write");
        }
        let wanted =
            fs::read_to_string(&expected).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
        assert!(is == wanted, "{}: this is not what was expected:\n{is}", expected.display());
    }
}

/// It went on for ever, in no time, and remembered all of it.
#[test]
fn a_replay_ends_though_what_the_kernel_is_short_of_never_comes() {
    for answers in ["short => ENOMEM", "short => EAGAIN", "short takes 3600000"] {
        let capture = b"addonce-capture 1\n0 add@/d ACTION=add DEVPATH=/d MODALIAS=short SEQNUM=1\n";
        let world = FakeModules::parse(answers).expect("a declaration");
        let told = replay(&capture[..], world, Limits::default()).expect("a capture");
        let attempts = told["attempts"].as_u64().expect("a number");
        assert_eq!(attempts, if answers.contains("takes") { 1 } else { 3 * 15 }, "a minute apart in the end");
        let end = "not done 10 minutes later: 1 modules loading, or to be tried again\n";
        assert!(page(&told).ends_with(end), "{told}");
    }
}

/// The rule that all of this is about, whatever is expected of the single case.
#[test]
fn no_module_comes_in_twice() {
    for case in cases() {
        let replayed = replayed(&case);
        let landings = replayed["add_once"].as_array().expect("landings");
        let live = landings.iter().filter(|landing| landing["outcome"] == "live");
        let mut modules: Vec<&str> =
            live.map(|landing| landing["module"].as_str().expect("a name")).collect();
        modules.sort_unstable();
        assert!(!modules.is_empty() && modules.is_sorted_by(|one, next| one < next), "{}", case.display());
    }
}

fn written(datagrams: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut writer = Writer::new(&mut text).unwrap();
    for (n, datagram) in datagrams.iter().enumerate() {
        writer.write(Duration::from_micros(213 * n as u64), datagram).unwrap();
    }
    text
}

fn fault(text: &str) -> String {
    match Reader::new(text.as_bytes()) {
        Err(error) => error,
        Ok(mut reader) => {
            let error = reader.find_map(Result::err).expect("an error");
            assert!(reader.next().is_none());
            error
        }
    }
}

#[test]
fn a_storm_reads_like_the_example_in_the_documentation() {
    let text = written(&[b"add@/d\0ACTION=add\0MODALIAS=a\\b \xff#\0", b"add@/e\0", b"add@/f"]);
    let expected = "addonce-capture 1\n0.000000 add@/d ACTION=add MODALIAS=a\\x5cb\\x20\\xff#\n\
                    0.000213 add@/e\n0.000426 add@/f\\\n";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn a_person_may_comment_leave_lines_empty_and_round_the_time() {
    let text = "addonce-capture 1\n# one\n\n\n3 add@/d A=1\n# two\n\n# three\n4.5 x\n\n";
    let records: Vec<_> = Reader::new(text.as_bytes()).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[0], Record { at: Duration::from_secs(3), datagram: b"add@/d\0A=1\0".to_vec() });
    assert_eq!(records[1], Record { at: Duration::from_millis(4500), datagram: b"x\0".to_vec() });
    assert_eq!(records.len(), 2);
}

#[test]
fn a_fault_names_its_line() {
    assert!(fault("").starts_with("line 1: this is no capture"));
    assert!(fault("addonce-capture 2\n").starts_with("line 1: this is no capture"));
    for time in ["x a", "1.a b", "1", "ACTION=add", "-1 a", "inf a", "NaN a", "99999999999999999999 a"] {
        assert!(
            fault(&format!("addonce-capture 1\n{time}\n")).starts_with("line 2: a uevent begins"),
            "{time}"
        );
    }
    assert_eq!(fault("addonce-capture 1\n\n0 a A=\u{ff}\n"), "line 3: byte 0xc3 has to be written \\xc3");
    assert_eq!(fault("addonce-capture 1\n0 a\r\n"), "line 2: byte 0x0d has to be written \\x0d");
    assert!(fault("addonce-capture 1\n0 a\\n\n").starts_with("line 2: a backslash"));
    assert!(fault("addonce-capture 1\n0 a\\x4\n").starts_with("line 2: a backslash"));
    assert!(fault("addonce-capture 1\n0 a\\ b\n").starts_with("line 2: a backslash"));
}

#[test]
fn a_record_without_end_is_refused_before_it_fills_the_memory() {
    let long = "x".repeat(10 * LONGEST);
    assert!(fault(&format!("addonce-capture 1\n0 {long}")).starts_with("line 2: the uevent is longer"));
    let many = "A=1 ".repeat(LONGEST / 4 + 1);
    assert!(fault(&format!("addonce-capture 1\n0 a {many}")).contains("the uevent is longer"));
}

#[test]
fn the_longest_record_comes_back() {
    let long = vec![0xff; LONGEST];
    let text = written(&[&long]);
    assert_eq!(Reader::new(text.as_slice()).unwrap().next().unwrap().unwrap().datagram, long);
}

proptest! {
    #[test]
    fn every_byte_comes_back(datagrams in proptest::collection::vec(
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(b' '), Just(b'#'), Just(b'\\'), Just(b'\n'), any::<u8>()], 0..12,
        ),
        0..6,
    )) {
        let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        let text = written(&slices);
        prop_assert!(text.iter().all(|&byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
        let read: Vec<_> = Reader::new(text.as_slice()).unwrap().map(Result::unwrap).collect();
        for (n, record) in read.iter().enumerate() {
            prop_assert_eq!(record.at, Duration::from_micros(213 * n as u64));
        }
        let read: Vec<_> = read.into_iter().map(|record| record.datagram).collect();
        prop_assert_eq!(read, datagrams);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9a@\\\\x.# \n]{0,80}") {
        let text = format!("addonce-capture 1\n{text}");
        Reader::new(text.as_bytes()).unwrap().for_each(drop);
    }
}

#[test]
fn a_declaration_reads_as_it_is_documented() {
    let text = "cpu:* -> acpi_cpufreq pcc_cpufreq # two\n\n# comment\npcc_cpufreq => ENODEV\na needs b c\nkvm is live";
    let mut world = FakeModules::parse(text).expect("it parses");
    let names: Vec<Name> = world.resolve(b"cpu:type:x").into_iter().map(|c| c.module).collect();
    assert_eq!(names, ["acpi_cpufreq".into(), "pcc_cpufreq".into()] as [Name; 2]);
    assert_eq!(world.module("pcc_cpufreq").errno, libc::ENODEV);
    assert_eq!(world.initstate("kvm"), InitState::Live);
    assert_eq!(world.plan(&"a".into(), None).deps.len(), 2);
}

#[test]
fn what_is_no_statement_is_named_with_its_line() {
    let error = FakeModules::parse("a needs b\nc => ENOSUCH").expect_err("no such errno");
    assert_eq!(error, "line 2: no such errno: c => ENOSUCH");
}
