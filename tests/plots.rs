// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storms as pictures, and the parts that pictures are made of.
//!
//! A case is a folder in tests/plots: storm.json, what `addonce plot --json` prints, and expected.svg, the picture of it;
//! to add one is to add files. None is a measurement: the guest's has the waits and loads of a
//! real log with 64 CPUs, but when they began is a guess and its rates are made up, and so is all of the others.
//! `ADDONCE_BLESS=1 cargo test --test plots` draws expected.svg anew, to be looked at.
//! Promised of every picture, whatever is expected of the single one: it is well-formed, has nothing in it but what
//! draws, and no text from outside gets to be anything else than text.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use addonce::plot::{Axis, Svg, Timeline, draw};
use common::running::addonce;
use roxmltree::{Document, NodeType};
use serde_json::{Value, json};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plots");
    let mut cases: Vec<_> =
        fs::read_dir(folder).expect("tests/plots").flatten().map(|entry| entry.path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plots").join(name).join("storm.json")
}

/// The picture of a case.
fn picture(case: &Path) -> String {
    let output = addonce().args(["plot", "--from"]).arg(case.join("storm.json")).output().expect("addonce");
    assert!(output.status.success(), "{}: {output:?}", case.display());
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn bars(case: &Path) -> Vec<Value> {
    let reply = fs::read(case.join("storm.json")).expect("storm.json");
    let reply: Value = serde_json::from_slice(&reply).expect("JSON");
    reply["storm"]["bars"].as_array().expect("bars").clone()
}

/// One line on standard error that has this in it, nothing on standard output, this exit code.
fn refused(arguments: &[&str], code: i32, word: &str) {
    let output = addonce().arg("plot").args(arguments).output().expect("addonce");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(code), 1), "{error}");
    assert!(error.starts_with("addonce: ") && error.contains(word), "no {word:?} in {error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_storm_looks_as_expected() {
    for case in cases() {
        let expected = case.join("expected.svg");
        let is = picture(&case);
        if std::env::var_os("ADDONCE_BLESS").is_some() {
            fs::write(&expected, &is).expect("write");
        }
        let wanted =
            fs::read_to_string(&expected).unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
        assert!(is == wanted, "{}: this is not what was expected", expected.display());
    }
}

#[test]
fn every_picture_is_well_formed_and_only_draws() {
    for case in cases() {
        let text = picture(&case);
        let xml = Document::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let nodes = || xml.descendants();
        let is: BTreeSet<&str> =
            nodes().filter(|node| node.is_element()).map(|node| node.tag_name().name()).collect();
        let draws = BTreeSet::from(["svg", "style", "rect", "path", "text"]);
        assert!(is.is_subset(&draws), "{}: {is:?}", case.display());
        assert!(nodes().all(|node| !matches!(node.node_type(), NodeType::Comment | NodeType::PI)));
        let known = ["class", "x", "y", "width", "height", "d", "viewBox", "role", "aria-label"];
        for attribute in nodes().flat_map(|node| node.attributes().collect::<Vec<_>>()) {
            assert!(known.contains(&attribute.name()), "{}: {attribute:?}", case.display());
        }
    }
}

#[test]
fn every_module_has_a_row_with_its_name() {
    for case in cases() {
        let text = picture(&case);
        let xml = Document::parse(&text).expect("XML");
        let class = |class| {
            let nodes = xml.descendants().filter(move |node| node.attribute("class") == Some(class));
            nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let names = class("name");
        let bars = bars(&case);
        assert_eq!(names.len(), bars.len(), "{}", case.display());
        for bar in bars {
            let module = bar["module"].as_str().expect("a name");
            let plain = module.len() <= 30 && module.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            assert!(!plain || names.iter().any(|name| name == module), "{}: {module}", case.display());
        }
    }
}

#[test]
fn everything_is_on_the_page() {
    for case in cases() {
        let text = picture(&case);
        let xml = Document::parse(&text).expect("XML");
        let number = |node: &roxmltree::Node, name| {
            node.attribute(name).map_or(0.0, |value| value.parse::<f64>().expect("a number"))
        };
        let [wide, high] = ["width", "height"].map(|name| number(&xml.root_element(), name));
        for node in xml.descendants().filter(|node| node.has_tag_name("rect") || node.has_tag_name("text")) {
            let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| number(&node, name));
            assert!(
                x >= 0.0 && x + width <= wide && y >= 0.0 && y + height <= high,
                "{}: {node:?}",
                case.display()
            );
        }
    }
}

#[test]
fn a_picture_is_written_to_the_file_that_is_named() {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = directory.path().join("storm.svg");
    let case = case("20-modules-in-half-a-second");
    let output = addonce().arg("plot").arg(&file).arg("--from").arg(&case).output().expect("addonce");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fs::read_to_string(file).expect("read"), picture(case.parent().expect("a folder")));
}

#[test]
fn the_daemon_is_asked_for_its_storm() {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let listener = UnixListener::bind(&socket).expect("bind");
    let case = case("20-modules-in-half-a-second");
    let storm: Value = serde_json::from_slice(&fs::read(&case).expect("read")).expect("JSON");
    let reply = serde_json::json!({ "parameters": storm }).to_string();
    let daemon = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut client, _) = listener.accept().expect("accept");
            let mut call = [0; 1024];
            let read = client.read(&mut call).expect("read");
            assert!(String::from_utf8_lossy(&call[..read]).contains("io.addonce.Storm"));
            client.write_all(reply.as_bytes()).and_then(|()| client.write_all(&[0])).expect("write");
        }
    });
    let asked = |flags: &[&str]| {
        let output = addonce().arg("plot").args(flags).arg("--socket").arg(&socket).output();
        output.expect("addonce").stdout
    };
    assert_eq!(asked(&[]), picture(case.parent().expect("a folder")).as_bytes());
    assert_eq!(serde_json::from_slice::<Value>(&asked(&["--json"])).expect("JSON"), storm);
    daemon.join().expect("both calls");
}

#[test]
fn where_there_was_no_storm_yet_that_is_said() {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = directory.path().join("none.json");
    fs::write(&file, "{\"storm\": null}").expect("write");
    refused(&["--from", file.to_str().expect("text")], 1, "no storm yet");
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_named() {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = directory.path().join("storm.json");
    let from = file.to_str().expect("text");
    refused(&["--from", from], 2, from);
    for content in ["", "{\"storm\": ", "\u{1}", "{\"settled\": true}", "{\"storm\": {\"bars\": 7}}"] {
        fs::write(&file, content).expect("write");
        refused(&["--from", from], 2, from);
    }
    let case = case("nothing-was-asked");
    refused(&["/nowhere/storm.svg", "--from", case.to_str().expect("text")], 5, "/nowhere/storm.svg");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = addonce()
        .args(["plot", "--from"])
        .arg(case("200-modules-in-20-seconds"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("addonce");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// The picture of these requests and duplicates, with a load of this module that so many asked for.
fn drawn(bin_ms: u64, requests: &[u64], duplicates: &[u64], module: &str, asked: u64) -> String {
    let bar = json!({
        "module": module, "error": null, "asked_ms": 0, "start_ms": 0, "end_ms": 0, "alias": "x",
        "devpath": null, "pulled_in_by": null, "asked": asked,
    });
    let storm = json!({
        "began_ms_ago": 0, "lasted_ms": 150, "over": true, "bin_ms": bin_ms, "requests": requests,
        "duplicates": duplicates, "bars": [bar],
    });
    draw(serde_json::from_value::<Timeline>(storm).expect("a storm"))
}

#[test]
fn a_rate_is_per_second_and_has_no_more_duplicates_than_requests() {
    let rate = |bin_ms, requests: &[u64], duplicates: &[u64]| {
        let text = drawn(bin_ms, requests, duplicates, "x", 1);
        let xml = Document::parse(&text).expect("XML");
        let class = |class| xml.descendants().filter(move |node| node.attribute("class") == Some(class));
        let paths = ["requests", "duplicates"].map(|name| class(name).find_map(|node| node.attribute("d")));
        let highest = class("level").filter_map(|node| node.text()).next_back();
        (paths.map(|path| path.expect("drawn").to_owned()), highest.expect("a level").to_owned())
    };
    let (paths, highest) = rate(50, &[10, 0, 5], &[9, 0, 70]);
    assert_eq!((&paths, &*highest), (&rate(50, &[10, 0, 5], &[9, 0, 5]).0, "200"));
    assert_ne!(paths, rate(50, &[10, 0, 5], &[9, 0, 4]).0);
    assert_eq!(rate(0, &[1, 2], &[1]), rate(1, &[1, 2], &[1, 0]));
    assert_eq!(rate(0, &[1, 2], &[1]).1, "2,000");
}

#[test]
fn numbers_and_texts_are_told_as_far_as_one_cares() {
    let text = drawn(50, &[1], &[0], "a_module_with_a_name_of_thirty_1", 1_234_067);
    assert!(text.contains(" · ×1,234,067<") && text.contains(">a_module_with_a_name_of_thirt…<"), "{text}");
    let text = drawn(50, &[1], &[0], "a\u{202e}b\0\n\\x5c<", 1);
    assert!(text.contains(">a\\xe2\\x80\\xaeb\\x00\\x0a\\x5c&lt;<"), "{text}");
}

fn labels(span: f64, most: u32) -> String {
    let ticks = Axis::new(0.0, 100.0, span, most).ticks();
    ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
}

#[test]
fn ticks_are_round_at_any_span_and_no_more_than_asked_for() {
    assert_eq!(labels(0.5, 10), "0.00 0.05 0.10 0.15 0.20 0.25 0.30 0.35 0.40 0.45 0.50");
    assert_eq!(labels(8.2, 10), "0 1 2 3 4 5 6 7 8");
    assert_eq!(labels(0.003, 5), "0.000 0.001 0.002 0.003");
    assert_eq!(labels(3600.0, 4), "0 1000 2000 3000");
    for exponent in -30..190 {
        assert!(labels(1.37f64.powi(exponent), 7).split(' ').count() <= 8, "1.37^{exponent}");
    }
}

#[test]
fn nothing_is_placed_off_the_axis() {
    for span in [0.0, 1e-300, 7.0, 1.8e16, f64::NAN, f64::INFINITY] {
        let axis = Axis::new(10.0, 90.0, span, 10);
        for value in [-1.0, 0.0, 1.8e16, f64::INFINITY] {
            assert!((10.0..=90.0).contains(&axis.at(value)), "{value} of {span}");
        }
    }
}

#[test]
fn markup_in_a_text_is_text() {
    let hostile = "</text><script>alert(\"1\")</script>&'\0\u{1b}\u{ffff}]]>";
    let mut svg = Svg::new(10.0, 10.0, hostile, "");
    svg.text("a", 0.0, 0.0, hostile);
    svg.text("b", 0.0, 0.0, hostile);
    let text = svg.finish();
    let xml = Document::parse(&text).expect("XML");
    let replaced = hostile.replace(['\0', '\u{1b}', '\u{ffff}'], "\u{fffd}");
    let texts = xml.descendants().filter(|node| node.is_text()).filter_map(|node| node.text());
    assert_eq!(texts.filter(|text| *text == replaced).count(), 2, "{text}");
    assert_eq!(xml.root_element().attribute("aria-label"), Some(replaced.as_str()));
}
