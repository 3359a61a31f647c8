// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Interface: every reply is what io.addonce.varlink says
//!
//! The text is the reference for whoever writes a client, so each reply is held against it: no field missing, none too
//! many, each of its type. What `--json` prints is the same.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use addonce::control::client::Conversation;
use addonce::control::protocol::DESCRIPTION;
use common::fixture::Fixture;
use common::flood::event;
use common::interface::Interface;
use common::namespace::alone;
use common::running::Running;
use common::sender::Sender;
use serde_json::{Value, json};

fn appear(devpath: &str, modalias: &str) {
    Sender::open().expect("a sender").inject(&event(devpath, modalias.as_bytes())).expect("injected");
}

#[test]
fn every_reply_is_what_the_interface_describes() {
    alone("every_reply_is_what_the_interface_describes", || {
        let interface = Interface::parse(DESCRIPTION);
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut monitor = Conversation::open(running.socket()).expect("a daemon");
        monitor.ask("Monitor", Value::Null, true).expect("asked");
        for n in 0..80 {
            appear(&format!("/devices/system/cpu/cpu{n}"), "fxbus:topmost");
        }
        let mut client = Conversation::open(running.socket()).expect("a daemon");
        let mut checked = vec!["Monitor"];
        for (method, parameters) in [
            ("Load", json!({ "alias": "fx_gone" })),
            ("Load", json!({ "alias": "fxblack:1" })),
            ("Retry", json!({ "modules": ["fx_gone", "fx_top"] })),
            ("Retry", Value::Null),
            ("Autoload", json!({ "name": "fx_top" })),
            ("Settle", Value::Null),
            ("Failures", Value::Null),
            ("Status", Value::Null),
            ("Storm", Value::Null),
        ] {
            client.ask(method, parameters, false).expect("asked");
            let reply = client.next(None).expect("a reply");
            interface.check(&reply, &interface.replies[method], method);
            checked.push(method);
        }
        // What only a hold program asks for: nothing is held, so it is answered at once.
        client.ask("Hold", json!({ "uuid": "addadd00-0ace-4000-0000-000000000001" }), false).expect("asked");
        interface.check(&client.next(None).expect("a reply"), &interface.replies["Hold"], "Hold");
        checked.push("Hold");
        for _ in 0..4 {
            let record = monitor.next(None).expect("a landing");
            interface.check(&record, &interface.replies["Monitor"], "Monitor");
            assert_eq!(record["add_once"]["dry_run"], true, "{record}");
        }
        for method in interface.replies.keys() {
            assert!(checked.contains(&method.as_str()), "{method} was not checked");
        }
        let status = running.json(&["status", "--json"]);
        let templates =
            [include_str!("../src/cli/metrics.prom"), include_str!("../src/cli/status.txt")].concat();
        for place in
            templates.split("{").filter(|part| part.starts_with('/') && !part.starts_with("/screen/"))
        {
            let (place, _) = place.split_once('}').expect("a place in the status");
            let value = status.pointer(place);
            let is_text = ["/version", "/kernel_version", "/modules"].contains(&place);
            let is_right = |value: &Value| {
                if is_text { value.is_string() } else { value.is_u64() || value.is_boolean() }
            };
            assert!(value.is_some_and(is_right), "{place}");
        }
        let screen = String::from_utf8(running.ask(&["status"]).stdout).expect("text");
        assert!(screen.contains(&format!("\n   requests: {}, ", status["requests"])), "{screen}");
        assert!(screen.starts_with("      state: settled\n"), "{screen}");
        assert!(!screen.contains('{') && !screen.contains(": \n"), "{screen}");
        assert!(
            screen.contains("; dry run: nothing is loaded\n") && !screen.contains("going on"),
            "{screen}"
        );
        let metrics = running.ask(&["status", "--prometheus"]).stdout;
        let requests = format!("\naddonce_requests_total {}\n", status["requests"]);
        assert!(String::from_utf8_lossy(&metrics).contains(&requests), "{}", metrics.escape_ascii());
        let failures = running.json(&["failed", "--json"]);
        assert_eq!(failures["failures"][0]["module"], "fx_gone");
        interface.check(&failures, &interface.replies["Failures"], "failed --json");
        interface.check(&running.json(&["status", "--json"]), &interface.replies["Status"], "status --json");
        let typed = running.ask(&["load", "fx_top"]);
        assert!(
            String::from_utf8_lossy(&typed.stderr).contains("a dry run: nothing was loaded"),
            "{typed:?}"
        );
    });
}

#[test]
fn a_soft_dependency_that_failed_is_not_promised_what_a_device_of_a_live_module_does_not_ask_for() {
    alone(
        "a_soft_dependency_that_failed_is_not_promised_what_a_device_of_a_live_module_does_not_ask_for",
        || {
            let fixture = Fixture::build("semantics");
            std::fs::write(fixture.config().join("0.conf"), "softdep fx_hidden pre: fx_gone\n")
                .expect("write");
            let running = Running::start(&fixture.flags());
            let failed = || {
                let shown = String::from_utf8(running.ask(&["failed", "fx_gone"]).stdout).expect("text");
                shown.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            appear("/devices/0", "fxhidden:1");
            running.settle();
            let soft = "tried again for a device of its own, or with a module that needs it and is not live";
            assert!(failed().contains(soft), "{}", failed());
            running.ask(&["retry", "fx_gone"]);
            assert!(failed().contains(soft), "it is no other one now: {}", failed());
        },
    );
}

#[test]
fn who_asks_the_wrong_thing_is_told_so_and_asks_again_on_the_same_connection() {
    alone("who_asks_the_wrong_thing_is_told_so_and_asks_again_on_the_same_connection", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut client = Conversation::open(running.socket()).expect("a daemon");
        client.ask("Load", json!({ "alias": "\\xzz" }), false).expect("asked");
        let refusal = client.next(None).expect_err("that is no escape").to_string();
        assert!(refusal.contains("InvalidParameter"), "{refusal}");
        client.ask("Load", json!({ "alias": "fx_top" }), false).expect("asked");
        assert_eq!(client.next(None).expect("a reply")["answers"][0]["module"], "fx_top");
    });
}

#[test]
fn a_load_with_more_is_accepted_first_hears_that_the_daemon_lives_and_is_answered_later() {
    alone("a_load_with_more_is_accepted_first_hears_that_the_daemon_lives_and_is_answered_later", || {
        let fixture = Fixture::build("semantics");
        // A load that takes until somebody writes to its file.
        std::fs::remove_file(fixture.file("fx_opt")).expect("remove");
        nix::unistd::mkfifo(&fixture.file("fx_opt"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let running = Running::start(&fixture.flags());
        let mut client = Conversation::open(running.socket()).expect("a daemon");
        client
            .ask("Load", json!({ "alias": "fx_opt", "devpath": "/devices/x", "seqnum": 7 }), true)
            .expect("asked");
        assert_eq!(client.next(None).expect("accepted"), json!({}));
        assert_eq!(client.next(None).expect("a second later"), json!({}));
        assert_eq!(running.json(&["status", "--json"])["loading"], 1);
        std::fs::OpenOptions::new().write(true).open(fixture.file("fx_opt")).expect("a reader");
        let mut reply = json!({});
        while reply == json!({}) {
            reply = client.next(None).expect("the answers");
        }
        assert_eq!(reply["answers"][0]["state"], "live");
        // A name that nobody knows is accepted and answered, too.
        client.ask("Load", json!({ "alias": "fxnone:1" }), true).expect("asked");
        assert_eq!(client.next(None).expect("accepted"), json!({}));
        assert_eq!(client.next(None).expect("the answers")["answers"], json!([]));
    });
}

#[test]
fn calls_that_came_together_are_all_carried_out_though_no_reply_is_read() {
    alone("calls_that_came_together_are_all_carried_out_though_no_reply_is_read", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut client = UnixStream::connect(running.socket()).expect("a daemon");
        let call = "{\"method\":\"io.addonce.Load\",\"parameters\":{\"alias\":\"fxnone:1\"}}\0";
        client.write_all(call.repeat(20).as_bytes()).expect("written");
        // Whoever asks wakes the daemon, so it is asked once.
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(running.json(&["status", "--json"])["requests"], 20);
    });
}

#[test]
fn half_a_message_is_waited_for_and_forgotten_with_its_client() {
    alone("half_a_message_is_waited_for_and_forgotten_with_its_client", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let whole = b"{\"method\":\"io.addonce.Settle\"}\0";
        for sent in 0..whole.len() {
            let mut stream = UnixStream::connect(running.socket()).expect("a daemon");
            stream.write_all(&whole[..sent]).expect("half a message");
        }
        let mut slow = UnixStream::connect(running.socket()).expect("a daemon");
        for byte in whole {
            slow.write_all(&[*byte]).expect("a byte");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut reply = [0; 64];
        let read = slow.read(&mut reply).expect("a reply");
        assert_eq!(&reply[..read], b"{\"parameters\":{}}\0");
        running.settled();
    });
}
