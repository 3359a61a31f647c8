// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Ours: the same questions, answered by addonce

use std::collections::HashSet;
use std::ffi::CString;

use addonce::kmod::Resolver;
use addonce::once::{Modules, Name, Verdict, Work};

/// The modules that a name stands for: `modprobe -R`, each once.
pub fn resolved(resolver: &mut Resolver, alias: &[u8]) -> Vec<String> {
    resolver.resolve(alias).iter().map(|candidate| candidate.module.to_string()).collect()
}

/// The lines of `addonce explain`: the ordered plans of every module of the resolution that is wanted.
pub fn explained(resolver: &mut Resolver, alias: &[u8], wanted: impl Fn(Verdict) -> bool) -> Vec<String> {
    let candidates = resolver.resolve(alias).into_iter().filter(|candidate| wanted(candidate.verdict));
    candidates.flat_map(|each| resolver.steps(alias, &each.module)).collect()
}

/// The lines in the order in which the core comes by the modules when it does one thing at a time: from the plans
/// alone, every module once, dependencies and softdeps before it, post softdeps behind.
pub fn flown(resolver: &mut Resolver, alias: &[u8]) -> Vec<String> {
    let mut flight = Flight { seen: HashSet::new(), lines: Vec::new() };
    for candidate in resolver.resolve(alias) {
        if candidate.verdict == Verdict::Load {
            flight.start(resolver, &candidate.module, candidate.options.as_deref());
        }
    }
    flight.lines
}

struct Flight {
    seen: HashSet<Name>,
    lines: Vec<String>,
}

impl Flight {
    fn start(&mut self, resolver: &mut Resolver, module: &Name, options: Option<&CString>) {
        if !self.seen.insert(module.clone()) {
            return;
        }
        let plan = resolver.plan(module, options);
        plan.deps.iter().chain(&plan.pre).for_each(|before| self.start(resolver, before, None));
        let text = |options: CString| {
            let blank = if options.is_empty() { "" } else { " " };
            format!("{}{blank}", options.to_string_lossy())
        };
        match plan.work {
            Work::Insert { file, options } => {
                self.lines.push(format!("insmod {} {}", file.display(), text(options)));
            }
            Work::Install { command, options } => {
                // A command is printed as modprobe prints it: as it stands in modprobe.d.
                let (command, options) = (command.to_string_lossy(), text(options));
                let written = match options.as_str() {
                    "" => command.into_owned(),
                    options => command.replace(options, "$CMDLINE_OPTS"),
                };
                self.lines.push(format!("install {written} {options}"));
            }
            Work::Builtin | Work::Missing => {}
        }
        plan.post.iter().for_each(|after| self.start(resolver, after, None));
    }
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
