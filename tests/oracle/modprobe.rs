// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Modprobe: the installed one, asked in bulk
//!
//! One process answers hundreds of questions (`-a`). The answers carry no names, so between any two questions a
//! module is asked for that only an `install` line of our own knows: its line is the mark between two answers.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use addonce::kmod::Tree;

use crate::common::tool::command;

const MARK: &str = "addonce_oracle_mark";
/// Below the kernel's limit for arguments, above what the start of a process costs.
const AT_ONCE: usize = 500;

/// What modprobe does with a name.
#[derive(Clone, Copy)]
pub enum Verb {
    /// `-R`: the modules it stands for.
    Resolve,
    /// `-D`: the steps, whatever the running kernel has loaded.
    Depends,
    /// `-D -b`: the same for what udev would load.
    DependsUnlessBlacklisted,
    /// `-n -v -b`: what udev's load would do on this host.
    DryRun,
}

pub struct Modprobe {
    root: PathBuf,
    version: String,
    config: Vec<PathBuf>,
    /// Holds the line of the mark; removed with this value.
    mark: tempfile::TempDir,
}

impl Modprobe {
    /// modprobe over the same modules and the same configuration as `tree`.
    pub fn over(tree: &Tree) -> Self {
        let root = tree.modules_dir.ancestors().nth(2).expect("ROOT/lib/modules").to_owned();
        let mark = tempfile::tempdir().expect("tempdir");
        fs::write(mark.path().join("mark.conf"), format!("install {MARK} {MARK}\n")).expect("write");
        Self { root, version: tree.kernel.clone(), config: tree.config_places(), mark }
    }

    /// The lines that modprobe prints for each of the questions, asked by two processes at a time.
    pub fn ask(&self, verb: Verb, questions: &[Vec<u8>]) -> Vec<Vec<String>> {
        let (front, back) = questions.split_at(questions.len() / 2);
        let ask = |half: &[Vec<u8>]| half.chunks(AT_ONCE).flat_map(|some| self.batch(verb, some)).collect();
        let (mut front, back): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
            let back = scope.spawn(|| ask(back));
            (ask(front), back.join().expect("thread"))
        });
        front.extend(back);
        front
    }

    /// The lines for one question, asked by a process of its own.
    pub fn ask_alone(&self, verb: Verb, question: &[u8]) -> Vec<String> {
        self.run(verb, &[OsStr::from_bytes(question).to_owned()])
    }

    /// What it exits with where the kernel asks for each of these names and every load succeeds: a process each, two at a time.
    pub fn exit_codes(&self, names: &[Vec<u8>]) -> Vec<Option<i32>> {
        let (front, back) = names.split_at(names.len() / 2);
        let codes = |half: &[Vec<u8>]| half.iter().map(|name| self.exit_code(name)).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let back = scope.spawn(|| codes(back));
            [codes(front), back.join().expect("thread")].concat()
        })
    }

    fn exit_code(&self, name: &[u8]) -> Option<i32> {
        let mut command = self.command();
        command.args(["-n", "-q", "--"]).arg(OsStr::from_bytes(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("modprobe").code()
    }

    fn batch(&self, verb: Verb, questions: &[Vec<u8>]) -> Vec<Vec<String>> {
        let names =
            questions.iter().flat_map(|q| [OsStr::from_bytes(q).to_owned(), MARK.into()]).collect::<Vec<_>>();
        let (mut answers, mut answer) = (Vec::new(), Vec::new());
        for line in self.run(verb, &names) {
            if line.trim_end().ends_with(MARK) {
                answers.push(std::mem::take(&mut answer));
            } else {
                answer.push(line);
            }
        }
        assert_eq!(answers.len(), questions.len(), "one mark behind every answer");
        answers
    }

    fn command(&self) -> Command {
        let mut command = command("modprobe");
        command.env_remove("MODPROBE_OPTIONS").arg("-d").arg(&self.root).arg("-S").arg(&self.version);
        for place in self.config.iter().map(PathBuf::as_path).chain([self.mark.path()]) {
            command.arg("-C").arg(place);
        }
        command
    }

    fn run(&self, verb: Verb, names: &[OsString]) -> Vec<String> {
        let mut command = self.command();
        command.args(match verb {
            Verb::Resolve => &["-R"][..],
            Verb::Depends => &["-D"],
            Verb::DependsUnlessBlacklisted => &["-D", "-b"],
            Verb::DryRun => &["-n", "-v", "-b"],
        });
        // Names it does not know are complained about one by one: the empty answer says the same (-q would say less).
        let output =
            command.args(["-a", "--"]).args(names).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.expect("modprobe");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}
