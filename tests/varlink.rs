// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Varlink: a client that nobody here wrote
//!
//! The command line of varlink.org's Python package finds its way by introspection alone, and calls every method of
//! io.addonce. tools/varlink fetches it; where it was not fetched these tests are left out.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use addonce::control::protocol::DESCRIPTION;
use common::fixture::Fixture;
use common::left_out::left_out;
use common::namespace::alone;
use common::running::Running;
use serde_json::Value;

/// The Python that has the client.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let mut environments =
        std::fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path());
    let python = environments.find(|dir| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("varlink-")) && dir.join("done").exists()
    });
    if python.is_none() {
        left_out("no Varlink client is here: tools/varlink fetches one");
    }
    python.map(|dir| dir.join("bin/python"))
}

/// The client, with these arguments.
fn varlink(arguments: &[&str]) -> Command {
    let mut command = Command::new(python().expect("it was there"));
    command.args(["-m", "varlink.cli"]).args(arguments);
    command
}

struct Caller(String);

impl Caller {
    fn of(running: &Running) -> Self {
        Self(format!("unix:{}", running.socket().display()))
    }

    fn output(&self, method: &str, parameters: &str) -> Output {
        varlink(&["call", &format!("{}/{method}", self.0), parameters]).output().expect("python")
    }

    fn call(&self, method: &str, parameters: &str) -> Value {
        let output = self.output(method, parameters);
        // This client prints nothing for a reply without parameters.
        if output.status.success() && output.stdout.is_empty() && output.stderr.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{method}: {error}: {output:?}"))
    }
}

#[test]
fn a_client_that_knows_nothing_finds_the_interface() {
    if python().is_none() {
        return;
    }
    alone("a_client_that_knows_nothing_finds_the_interface", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let address = Caller::of(&running).0;
        let info = varlink(&["info", &address]).output().expect("python");
        let info = String::from_utf8(info.stdout).expect("text");
        assert!(info.contains("Product: addonce") && info.contains("io.addonce"), "{info}");
        let help = varlink(&["help", &format!("{address}/io.addonce")]).output().expect("python");
        let help = String::from_utf8(help.stdout).expect("text");
        assert_eq!(help.trim(), DESCRIPTION.trim());
    });
}

#[test]
fn every_method_answers_a_client_that_nobody_here_wrote() {
    if python().is_none() {
        return;
    }
    alone("every_method_answers_a_client_that_nobody_here_wrote", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let caller = Caller::of(&running);
        let monitor = format!("{}/io.addonce.Monitor", caller.0);
        let mut monitor =
            varlink(&["call", "--more", &monitor]).stdout(Stdio::piped()).spawn().expect("python");
        while running.json(&["status", "--json"])["clients"]["now"] != 2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut called = vec!["Monitor"];
        for (method, parameters, pointer, expected) in [
            ("Load", r#"{"alias": "fx_top"}"#, "/answers/0/state", "live"),
            ("Load", r#"{"alias": "fx_gone"}"#, "/answers/0/state", "failed"),
            ("Retry", r#"{"modules": ["fx_gone"]}"#, "/answers/0/state", "failed"),
            ("Settle", "{}", "", ""),
            ("Failures", "{}", "/failures/0/module", "fx_gone"),
            ("Hold", "{}", "", ""),
            ("Autoload", r#"{"name": "fx_top"}"#, "/answer", "yours"),
            ("Status", "{}", "/version", env!("CARGO_PKG_VERSION")),
            ("Storm", "{}", "", ""),
        ] {
            let reply = caller.call(&format!("io.addonce.{method}"), parameters);
            let found = reply.pointer(pointer).unwrap_or_else(|| panic!("{method}: {reply:#}"));
            assert!(pointer.is_empty() || found == expected, "{method}: {reply:#}");
            called.push(method);
        }
        let methods = DESCRIPTION.lines().filter_map(|line| line.strip_prefix("method "));
        for method in methods.map(|rest| rest.split('(').next().expect("a name")) {
            assert!(called.contains(&method), "{method} was not called");
        }
        drop(running);
        // The records it was sent, indented; what ended it is no record.
        let stdout = BufReader::new(monitor.stdout.take().expect("piped"));
        let lines: Vec<String> = stdout.lines().map_while(Result::ok).collect();
        let _ = monitor.wait();
        let modules: Vec<_> = lines.iter().filter(|line| line.contains("\"module\":")).collect();
        assert!(modules.iter().any(|line| line.contains("fx_top")), "{lines:#?}");
        assert!(modules.iter().any(|line| line.contains("fx_gone")), "{lines:#?}");
    });
}

#[test]
fn errors_have_the_names_that_a_client_knows() {
    if python().is_none() {
        return;
    }
    alone("errors_have_the_names_that_a_client_knows", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let caller = Caller::of(&running);
        for (method, parameters, error) in [
            ("io.addonce.Fly", "{}", "MethodNotFound"),
            ("io.nobody.Status", "{}", "InterfaceNotFound"),
            ("io.addonce.Load", r#"{"module": "fx_top"}"#, "InvalidParameter"),
            ("io.addonce.Status", r#"{"verbose": true}"#, "InvalidParameter"),
            ("io.addonce.Monitor", "{}", "ExpectedMore"),
        ] {
            let output = caller.output(method, parameters);
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(said.contains(&format!("org.varlink.service.{error}")), "{method}: {said}");
        }
    });
}
