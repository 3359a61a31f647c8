// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Daemon: the whole of it, over the kernel's own socket
//!
//! Each test has a network namespace of its own, injects events that the kernel broadcasts like any other, and asks the
//! daemon by addonce's own commands. Nothing is inserted: the loader only says what it would do.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use common::fixture::Fixture;
use common::namespace::alone;
use common::running::Running;
use common::sender::Sender;

fn inject(datagram: &str) {
    Sender::open().expect("a sender").inject(datagram.as_bytes()).expect("injected");
}

fn appear(devpath: &str, modalias: &str) {
    inject(&format!("add@{devpath}\0ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=test\0MODALIAS={modalias}\0"));
}

fn landings<'a>(log: &'a [String], module: &str) -> Vec<&'a String> {
    let start = format!("addonce: add_once {module} ");
    log.iter().filter(|line| line.starts_with(&start)).collect()
}

#[test]
fn a_storm_over_the_socket_is_one_landing_per_module() {
    alone("a_storm_over_the_socket_is_one_landing_per_module", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        for cpu in 0..500 {
            appear(&format!("/devices/system/cpu/cpu{cpu}"), "fxbus:topmost");
        }
        running.settle();
        let status = running.json(&["status", "--json"]);
        assert_eq!(status["requests"], 500);
        assert_eq!(status["uevents"]["read"], 500);
        assert_eq!(status["settled"], true);
        let log = running.stop();
        for module in ["fx_base", "fx_mid", "fx_top", "fx_twin"] {
            assert_eq!(landings(&log, module).len(), 1, "{module}: {log:#?}");
        }
        assert!(landings(&log, "fx_black").is_empty(), "blacklisted");
        assert!(landings(&log, "fx_mid")[0].contains("pulled_in_by=fx_top"));
    });
}

#[test]
fn a_malformed_datagram_is_named_and_counted_and_nothing_else_happens() {
    alone("a_malformed_datagram_is_named_and_counted_and_nothing_else_happens", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&fixture.flags());
        inject("add@relative\0ACTION=add\0MODALIAS=fxopt:1\0");
        let line = running.wait_for("was not understood");
        assert!(line.contains("add@relative"), "{line}");
        appear("/devices/x", "fxopt:1");
        running.wait_for("add_once fx_opt live");
        let status = running.json(&["status", "--json"]);
        assert_eq!((&status["uevents"]["malformed"], &status["requests"]), (&1.into(), &1.into()));
    });
}

#[test]
fn what_the_kernel_announces_is_live_and_what_it_takes_back_is_not() {
    alone("what_the_kernel_announces_is_live_and_what_it_takes_back_is_not", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        appear("/devices/x", "fxopt:1");
        running.settle();
        appear("/devices/x", "fxopt:1");
        running.settle();
        assert_eq!(running.json(&["status", "--json"])["duplicates"]["live"], 1);
        inject("remove@/module/fx_opt\0ACTION=remove\0DEVPATH=/module/fx_opt\0SUBSYSTEM=module\0");
        appear("/devices/x", "fxopt:1");
        running.settle();
        assert_eq!(landings(&running.stop(), "fx_opt").len(), 2);
    });
}

#[test]
fn a_client_waits_for_the_outcome_and_hears_of_a_name_nobody_knows() {
    alone("a_client_waits_for_the_outcome_and_hears_of_a_name_nobody_knows", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let output = running.ask(&["load", "fx_top"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_top: live\n");
        let output = running.ask(&["load", "fxnone:1"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no module is known for fxnone:1"));
        for nothing in [["load", ""], ["retry", ""]] {
            assert_eq!(running.ask(&nothing).status.code(), Some(2), "{nothing:?}");
        }
        let output = running.ask(&["retry", "fx_top", "fx_opt", "fxnone"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout);
        let others = ["fx_opt", "fxnone"];
        let others = others.map(|name| format!("{name}: has not failed; to load it: addonce load {name}\n"));
        assert_eq!(said, format!("fx_top: live\n{}", others.concat()), "neither is loaded");
        let answers = running.json(&["load", "--json", "fxblack:1"]);
        assert_eq!(answers["answers"][0]["state"], "blacklisted");
        let said = running.ask(&["load", "fxblack:1"]).stdout;
        let blacklisted =
            "fx_black: blacklisted: left alone; to load it all the same: addonce load fx_black\n";
        assert_eq!(String::from_utf8_lossy(&said), blacklisted);
    });
}

#[test]
fn a_message_that_is_none_gets_an_error_and_the_next_one_an_answer() {
    alone("a_message_that_is_none_gets_an_error_and_the_next_one_an_answer", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut client = UnixStream::connect(running.socket()).expect("connect");
        let mut reply = |message: &[u8]| {
            client.write_all(message).expect("write");
            let mut bytes = Vec::new();
            let mut byte = [0];
            while client.read(&mut byte).expect("read") == 1 && byte[0] != 0 {
                bytes.push(byte[0]);
            }
            String::from_utf8(bytes).expect("text")
        };
        assert!(reply(b"no json\0").contains("org.varlink.service.InvalidParameter"));
        assert!(reply(b"{\"method\":\"io.addonce.Fly\"}\0").contains("org.varlink.service.MethodNotFound"));
        assert!(
            reply(b"{\"method\":\"io.addonce.Load\",\"parameters\":{\"x\":1}}\0")
                .contains("InvalidParameter")
        );
        assert!(reply(b"{\"method\":\"io.addonce.Status\"}\0").contains("requests"));
        // What is longer than any message is not waited for to end.
        let _ = client.write_all(&vec![b' '; 1 << 20]);
        let mut end = Vec::new();
        let _ = client.read_to_end(&mut end);
        assert!(end.is_empty(), "closed without a word");
        running.settle();
    });
}

#[test]
fn a_second_daemon_at_the_same_socket_is_refused() {
    alone("a_second_daemon_at_the_same_socket_is_refused", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let flags = fixture.flags();
        let command: Vec<&str> =
            ["daemon", "--dry-run"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        let output = running.ask(&command);
        assert_eq!(output.status.code(), Some(5));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("another daemon (PID "), "{error}");
        running.settle();
    });
}
