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
use std::process::{Command, Output};

use addonce::plot::{About, Axis, Svg, Timeline, draw};
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

/// What the daemon replies in this case.
fn reply(case: &Path) -> Value {
    let reply = fs::read(case.join("storm.json")).expect("storm.json");
    serde_json::from_slice(&reply).expect("JSON")
}

/// The picture of a case.
fn picture(case: &Path) -> String {
    let about = About { text: "a-host · Linux 0.0.0 · 2026-11-26 13:57:01 UTC".into(), began_ms: 12_340 };
    draw(serde_json::from_value(reply(case)["storm"].take()).expect("a storm"), &about)
}

/// A picture without what is another in each run: the lines that say where and when it was, and the labels of time.
fn lasting(picture: &str) -> Vec<&str> {
    let changes = ["class=\"facts\"", "class=\"tick\"", "class=\"grid\""];
    picture.lines().filter(|line| changes.iter().all(|change| !line.contains(change))).collect()
}

fn bars(case: &Path) -> Vec<Value> {
    reply(case)["storm"]["bars"].as_array().expect("bars").clone()
}

/// The first case.
fn some() -> PathBuf {
    cases().swap_remove(0)
}

/// Runs the program where a file may have no bytes, as on a full disk.
fn without_room() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(addonce().get_program());
    shell
}

/// `addonce plot` with these arguments, whose daemon replies this.
fn plot(arguments: &[&str], reply: &Value) -> Output {
    plot_by(addonce(), arguments, reply)
}

fn plot_by(mut command: Command, arguments: &[&str], reply: &Value) -> Output {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let listener = UnixListener::bind(&socket).expect("bind");
    let reply = json!({ "parameters": reply }).to_string();
    let daemon = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("accept");
        let mut call = [0; 1024];
        let read = client.read(&mut call).expect("read");
        assert!(String::from_utf8_lossy(&call[..read]).contains("io.addonce.Storm"));
        client.write_all(reply.as_bytes()).and_then(|()| client.write_all(&[0])).expect("write");
    });
    let output = command.arg("plot").args(arguments).arg("--socket").arg(&socket).output().expect("addonce");
    daemon.join().expect("the call");
    output
}

/// One line on standard error that has this in it, nothing on standard output, this exit code.
fn refused(arguments: &[&str], reply: &Value, code: i32, word: &str) {
    let output = plot(arguments, reply);
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
    let output = plot(&[file.to_str().expect("text")], &reply(&some()));
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let first = fs::read_to_string(&file).expect("read");
    assert_eq!(lasting(&first), lasting(&picture(&some())));
    // Who does not say so replaces nothing.
    refused(&[file.to_str().expect("text")], &reply(&cases()[1]), 2, "--force");
    assert_eq!(fs::read_to_string(&file).expect("read"), first);
    // Where there is no room for another one it stays.
    let output = plot_by(without_room(), &["--force", file.to_str().expect("text")], &reply(&cases()[1]));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), first);
    assert!(plot(&["--force", file.to_str().expect("text")], &reply(&cases()[1])).status.success());
    assert_eq!(lasting(&fs::read_to_string(&file).expect("read")), lasting(&picture(&cases()[1])));
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "no other file is left");
    refused(&["/nowhere/storm.svg"], &reply(&some()), 5, "/nowhere/storm.svg");
}

#[test]
fn the_daemon_is_asked_for_its_storm() {
    let storm = reply(&some());
    for arguments in [&[][..], &["-"]] {
        let drawn = String::from_utf8(plot(arguments, &storm).stdout).expect("text");
        assert_eq!(lasting(&drawn), lasting(&picture(&some())));
    }
    assert_eq!(serde_json::from_slice::<Value>(&plot(&["--json"], &storm).stdout).expect("JSON"), storm);
}

#[test]
fn where_there_was_no_storm_yet_that_is_said() {
    refused(&[], &json!({ "storm": null }), 1, "no storm yet");
    refused(&[], &json!({ "storm": { "bars": 7 } }), 5, "not understood");
}

/// The picture of these requests and duplicates, with a load of this module that so many asked for.
fn drawn(bin_ms: u64, requests: &[u64], duplicates: &[u64], module: &str, asked: u64) -> String {
    let bar = json!({
        "module": module, "error": null, "asked_ms": 0, "start_ms": 0, "end_ms": 0, "pulled_in_by": null,
        "asked": asked,
    });
    let storm = json!({
        "began_ms_ago": 0, "lasted_ms": 150, "over": true, "bin_ms": bin_ms, "requests": requests,
        "duplicates": duplicates, "bars": [bar],
    });
    let about = About { text: String::new(), began_ms: 0 };
    draw(serde_json::from_value::<Timeline>(storm).expect("a storm"), &about)
}

#[test]
fn a_picture_says_where_and_when_it_was_and_its_times_are_the_kernels() {
    let mut storm = reply(&some());
    storm["storm"]["began_ms_ago"] = json!(0);
    let drawn = String::from_utf8(plot(&[], &storm).stdout).expect("text");
    let xml = Document::parse(&drawn).expect("XML");
    let class = |class| {
        let nodes = xml.descendants().filter(move |node| node.attribute("class") == Some(class));
        nodes.filter_map(|node| node.text()).collect::<Vec<_>>()
    };
    let read = |path| fs::read_to_string(path).expect(path).trim_end().to_owned();
    let [host, kernel] = ["/proc/sys/kernel/hostname", "/proc/sys/kernel/osrelease"].map(read);
    let about = format!("{host} · Linux {kernel} · addonce {} · 20", env!("CARGO_PKG_VERSION"));
    assert!(
        class("facts").iter().any(|text| text.starts_with(&about) && text.ends_with(" UTC")),
        "{:?}",
        class("facts")
    );
    let uptime: f64 = read("/proc/uptime").split(' ').next().expect("a number").parse().expect("a number");
    let first: f64 = class("tick")[0].strip_suffix(" s").expect("seconds").parse().expect("a number");
    assert!((uptime - 60.0..uptime + 1.0).contains(&first), "{first}, and it is {uptime}");
}

#[test]
fn a_rate_is_per_second() {
    let rate = |bin_ms, requests: &[u64], duplicates: &[u64]| {
        let text = drawn(bin_ms, requests, duplicates, "x", 1);
        let xml = Document::parse(&text).expect("XML");
        let class = |class| xml.descendants().filter(move |node| node.attribute("class") == Some(class));
        let paths = ["requests", "duplicates"].map(|name| class(name).find_map(|node| node.attribute("d")));
        let highest = class("level").filter_map(|node| node.text()).next_back();
        (paths.map(|path| path.expect("drawn").to_owned()), highest.expect("a level").to_owned())
    };
    let (paths, highest) = rate(50, &[10, 0, 5], &[9, 0, 5]);
    assert_eq!(highest, "200");
    assert_ne!(paths, rate(50, &[10, 0, 5], &[9, 0, 4]).0);
    assert_eq!(rate(1, &[1, 2], &[1, 0]).1, "2,000");
}

#[test]
fn numbers_and_texts_are_told_as_far_as_one_cares() {
    let text = drawn(50, &[1], &[0], "a_module_with_a_name_of_thirty_1", 1_234_067);
    assert!(text.contains(" · ×1,234,067<") && text.contains(">a_module_with_a_name_of_thirt…<"), "{text}");
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
    // From elsewhere on they are as round.
    let ticks = Axis::new(0.0, 100.0, 0.5, 5).from(12.34).ticks();
    let is: Vec<_> = ticks.iter().map(|(place, label)| format!("{label} at {place:.0}")).collect();
    assert_eq!(is, ["12.4 at 12", "12.5 at 32", "12.6 at 52", "12.7 at 72", "12.8 at 92"]);
    for exponent in -30..190 {
        assert!(labels(1.37f64.powi(exponent), 7).split(' ').count() <= 8, "1.37^{exponent}");
    }
}

#[test]
fn nothing_is_placed_off_the_axis() {
    for span in [0.0, 1e-300, 7.0, 1.8e16] {
        let axis = Axis::new(10.0, 90.0, span, 10);
        for value in [-1.0, 0.0, 1.8e16, f64::INFINITY] {
            assert!((10.0..=90.0).contains(&axis.at(value)), "{value} of {span}");
        }
    }
}

#[test]
fn markup_in_a_text_is_text() {
    let hostile = "</text><script>alert(\"1\")</script>&']]>";
    let mut svg = Svg::new(10.0, 10.0, hostile, "");
    svg.text("a", 0.0, 0.0, hostile);
    svg.text("b", 0.0, 0.0, hostile);
    let text = svg.finish();
    let xml = Document::parse(&text).expect("XML");
    let texts = xml.descendants().filter(|node| node.is_text()).filter_map(|node| node.text());
    assert_eq!(texts.filter(|text| *text == hostile).count(), 2, "{text}");
    assert_eq!(xml.root_element().attribute("aria-label"), Some(hostile));
}
