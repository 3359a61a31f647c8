// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Ours: the same questions, answered by addonce

use std::collections::HashSet;
use std::ffi::CString;

use addonce::kmod::Resolver;
use addonce::once::{Modules, Verdict, Work};

/// The modules that a name stands for: `modprobe -R`, each once.
pub fn resolved(resolver: &mut Resolver, alias: &[u8]) -> Vec<String> {
    resolver.resolve(alias).iter().map(|candidate| candidate.module.to_string()).collect()
}

/// The lines in the order in which the core comes by the modules when it does one thing at a time: from the plans
/// alone, every module once, dependencies and softdeps before it, post softdeps behind.
pub fn flown(resolver: &mut Resolver, alias: &[u8]) -> Vec<String> {
    let mut seen = Default::default();
    let candidates = resolver.resolve(alias).into_iter().filter(|each| each.verdict == Verdict::Load);
    let plans: Vec<_> = candidates
        .flat_map(|each| resolver.plans(&each.module, each.options.as_deref(), &mut seen))
        .collect();
    plans.into_iter().filter_map(|plan| line(plan.work)).collect()
}

/// As modprobe prints it.
fn line(work: Work) -> Option<String> {
    let text = |options: CString| {
        let blank = if options.is_empty() { "" } else { " " };
        format!("{}{blank}", options.to_string_lossy())
    };
    match work {
        Work::Insert { file, options } => Some(format!("insmod {} {}", file.display(), text(options))),
        Work::Install { command, options } => {
            // A command is printed as it stands in modprobe.d.
            let (command, options) = (command.to_string_lossy(), text(options));
            let written = match options.as_str() {
                "" => command.into_owned(),
                options => command.replace(options, "$CMDLINE_OPTS"),
            };
            Some(format!("install {written} {options}"))
        }
        Work::Builtin | Work::Missing => None,
    }
}

/// What is loaded of modprobe's plan, each module once: a plan of ours leaves out what is part of the kernel image.
pub fn loaded(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| !line.starts_with("builtin "));
    once_a_file(lines)
}

/// Every line at its first place only.
pub fn once(lines: Vec<String>) -> Vec<String> {
    first_by(lines, |line| line.to_owned())
}

/// Every file at its first place only, whatever the options: the second insert would find the module live.
pub fn once_a_file(lines: Vec<String>) -> Vec<String> {
    first_by(lines, |line| line.split(".ko ").next().unwrap_or(line).to_owned())
}

fn first_by(lines: Vec<String>, key: impl Fn(&str) -> String) -> Vec<String> {
    let mut seen = HashSet::new();
    lines.into_iter().filter(|line| seen.insert(key(line))).collect()
}
