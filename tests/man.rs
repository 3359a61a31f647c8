// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Man: the pages say what the program is
//!
//! Holds the sources in man/ and the program together, both ways: what the program has stands in a page, and what stands
//! in a page the program has. addonce(8) is compared with the command line as clap knows it, io.addonce(7) with the
//! interface, addonce-hwdb(5) with the policy's parser. Prose is not checked.

use std::collections::{BTreeMap, BTreeSet};

use addonce::cli::Cli;
use addonce::control::protocol as interface;
use addonce::kmod::hwdb::set;
use addonce::once::policy::Policy;
use clap::{Arg, Command, CommandFactory};

const ADDONCE: &str = include_str!("../man/addonce.8.scd");
const INTERFACE: &str = include_str!("../man/io.addonce.7.scd");
const HWDB: &str = include_str!("../man/addonce-hwdb.5.scd");
const MODPROBE: &str = include_str!("../man/addonce-modprobe.8.scd");
const FAILURES: &str = include_str!("../man/addonce-failures.7.scd");

/// An option: the value it takes, and the default that it says it has.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    value: Option<String>,
    default: Option<String>,
}

type Flags = BTreeMap<String, Flag>;

/// The text without scdoc's marks.
fn plain(text: &str) -> String {
    text.replace(['*', '_', '\\'], "")
}

/// All blanks are one.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How deep a header is; none where the line is no header.
fn level(line: &str) -> Option<usize> {
    let level = line.len() - line.trim_start_matches('#').len();
    (level > 0 && line[level..].starts_with(' ')).then_some(level)
}

/// What follows the line `header`, up to the next header of its level or above. A root's prompt in a literal block is
/// no header.
fn section<'a>(page: &'a str, header: &str) -> &'a str {
    let (mut at, mut start, mut literal) = (0, None, false);
    for line in page.split_inclusive('\n') {
        literal ^= line == "```\n";
        match start {
            Some(start) if !literal && level(line).is_some_and(|found| Some(found) <= level(header)) => {
                return &page[start..at];
            }
            None if line.trim_end() == header => start = Some(at + line.len()),
            _ => {}
        }
        at += line.len();
    }
    &page[start.unwrap_or_else(|| panic!("no {header}"))..]
}

fn subsections(section: &str) -> Vec<&str> {
    section.lines().filter_map(|line| line.strip_prefix("## ")).collect()
}

/// The literal blocks, their escapes undone.
fn literals(page: &str) -> Vec<String> {
    page.split("\n```\n").skip(1).step_by(2).map(|block| block.replace("\\\\", "\\")).collect()
}

/// The options that have an item of their own: a line that begins with the option, and an indented text below.
fn items(section: &str) -> Flags {
    let mut items = Flags::new();
    let mut lines = section.lines().peekable();
    while let Some(head) = lines.next() {
        if !head.starts_with("*-") {
            continue;
        }
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| line.is_empty() || line.starts_with('\t')) {
            text += &format!("{} ", plain(line.trim()));
        }
        let text = squeezed(&text);
        let head = plain(head);
        let long = head.split(", ").find(|name| name.starts_with("--")).expect("a long option");
        let (name, value) = long.split_once(' ').map_or((long, None), |(name, value)| (name, Some(value)));
        let default = text.split_once("Default: ").map(|(_, rest)| rest.trim_end_matches('.'));
        // What a number amounts to may stand behind it.
        let default = default.map(|rest| rest.split_once(" (").map_or(rest, |(number, _)| number));
        let flag = Flag { value: value.map(Into::into), default: default.map(Into::into) };
        assert_eq!(items.insert(name.into(), flag), None, "{name} stands there twice");
    }
    items
}

/// An option, as `--help` shows it.
fn flag(arg: &Arg) -> Option<(String, Flag)> {
    let name = format!("--{}", arg.get_long()?);
    if !arg.get_action().takes_values() {
        return Some((name, Flag { value: None, default: None }));
    }
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let value = arg.get_value_names().expect("a value has a name")[0].to_string();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let in_words = help.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
    let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    // The page's is without underscores, which are scdoc's marks.
    // Where the program says it in words, it differs from machine to machine.
    let default = in_words.map(|(default, _)| plain(default)).or(default);
    Some((name, Flag { value: Some(if optional { format!("[{value}]") } else { value }), default }))
}

fn program() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

/// The options of a command, without those that stand before it as well.
fn own_flags(command: &Command, of_all: &Flags) -> Flags {
    let mut flags: Flags = command.get_arguments().filter_map(flag).collect();
    flags.retain(|name, _| !of_all.contains_key(name));
    flags
}

/// The options that the synopsis of a command shows, with their values.
fn synopsis(section: &str) -> BTreeSet<String> {
    let paragraph = section.trim_start().split("\n\n").next().expect("a synopsis");
    let paragraph = squeezed(&plain(paragraph));
    let options = paragraph.split("[--").skip(1).map(|rest| {
        let rest = rest.trim_end();
        format!("--{}", rest.strip_suffix(']').unwrap_or(rest))
    });
    options.collect()
}

fn written(flags: &Flags) -> BTreeSet<String> {
    flags
        .iter()
        .map(|(name, flag)| {
            flag.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name} {value}"))
        })
        .collect()
}

#[test]
fn the_pages_are_of_this_version() {
    for (page, name) in [
        (ADDONCE, "addonce(8)"),
        (INTERFACE, "io.addonce(7)"),
        (HWDB, "addonce-hwdb(5)"),
        (FAILURES, "addonce-failures(7)"),
        (MODPROBE, "addonce-modprobe(8)"),
    ] {
        let head = format!("{name} \"addonce {}\" \"addonce\"\n", env!("CARGO_PKG_VERSION"));
        assert!(page.starts_with(&head), "{name} does not begin with {head}");
    }
}

#[test]
fn every_command_stands_in_the_page_and_no_other() {
    let program = program();
    let commands: BTreeSet<&str> = program.get_subcommands().map(Command::get_name).collect();
    let page: BTreeSet<&str> = subsections(section(ADDONCE, "# COMMANDS")).into_iter().collect();
    assert_eq!(page, commands);
}

#[test]
fn every_option_of_every_command_stands_in_the_page_with_its_default_and_no_other() {
    let program = program();
    let of_all: Flags = program.get_arguments().filter_map(flag).collect();
    assert_eq!(items(section(ADDONCE, "# OPTIONS")), of_all);

    let mut wrong = Vec::new();
    let mut unshared = items(section(ADDONCE, "# SHARED OPTIONS"));
    let shared = items(section(ADDONCE, "# SHARED OPTIONS"));
    for name in subsections(section(ADDONCE, "# COMMANDS")) {
        let Some(command) = program.find_subcommand(name) else {
            wrong.push(format!("{name}: the page has it, the program does not"));
            continue;
        };
        let page = section(section(ADDONCE, "# COMMANDS"), &format!("## {name}"));
        let flags = own_flags(command, &of_all);
        let (shown, had) = (synopsis(page), written(&flags));
        wrong.extend(shown.difference(&had).map(|flag| format!("{name}: only the synopsis has {flag}")));
        wrong.extend(had.difference(&shown).map(|flag| format!("{name}: the synopsis lacks {flag}")));
        for arg in command.get_positionals() {
            let value = &arg.get_value_names().expect("an argument has a name")[0];
            if !page.trim_start().lines().next().is_some_and(|line| plain(line).contains(value.as_str())) {
                wrong.push(format!("{name}: the synopsis lacks {value}"));
            }
        }
        let own = items(page);
        wrong.extend(
            own.keys()
                .filter(|flag| !flags.contains_key(*flag))
                .map(|flag| format!("{name}: only the page has {flag}")),
        );
        for (flag, had) in &flags {
            unshared.remove(flag);
            match own.get(flag).or(shared.get(flag)) {
                None => wrong.push(format!("{name}: the page does not explain {flag}")),
                Some(said) if said != had => {
                    wrong.push(format!("{name}: {flag}: the page says {said:?}, the program {had:?}"));
                }
                Some(_) => {}
            }
        }
    }
    wrong.extend(unshared.keys().map(|flag| format!("no command has the shared option {flag}")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_exit_code_stands_in_the_page() {
    let source = include_str!("../src/fatal.rs");
    let codes = source.lines().filter_map(|line| line.trim().strip_prefix("Fatal::")?.split_once(" => "));
    let mut expected: Vec<String> =
        codes.map(|(_, code)| format!("*{}*", code.trim_end_matches(','))).collect();
    expected.extend(["*0*".into(), "*1*".into()]);
    expected.sort();
    let page: Vec<&str> =
        section(ADDONCE, "# EXIT CODES").lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(page, expected);
}

/// The declarations of an interface: methods, types and errors, blanks squeezed.
fn declarations(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut depth = 0;
    let mut open = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let declares = ["method ", "type ", "error "].iter().any(|word| line.starts_with(word));
        if open.is_empty() && !declares {
            continue;
        }
        open += &format!("{line} ");
        depth += line.matches('(').count();
        depth -= line.matches(')').count();
        if depth == 0 {
            found.insert(squeezed(&std::mem::take(&mut open)));
        }
    }
    found
}

#[test]
fn every_declaration_of_the_interface_stands_in_its_page_word_for_word_and_no_other() {
    let interface = declarations(interface::DESCRIPTION);
    let page: BTreeSet<String> = literals(INTERFACE).iter().flat_map(|block| declarations(block)).collect();
    assert_eq!(page, interface);
    let methods = interface.iter().filter_map(|text| text.strip_prefix("method "));
    let methods: BTreeSet<&str> = methods.filter_map(|text| text.split('(').next()).collect();
    let headers: BTreeSet<&str> = subsections(section(INTERFACE, "# METHODS")).into_iter().collect();
    assert_eq!(headers, methods, "each method has a header");
    for method in methods {
        let page = section(section(INTERFACE, "# METHODS"), &format!("## {method}"));
        let call = format!("io.addonce io.addonce.{method} '");
        assert!(literals(page).iter().any(|block| block.contains(&call)), "{method} has no example call");
    }
}

#[test]
fn every_error_that_a_client_may_get_stands_in_the_page_and_no_other() {
    let service = interface::description(interface::SERVICE).expect("its own description");
    let all = declarations(service).into_iter().chain(declarations(interface::DESCRIPTION));
    let errors: BTreeSet<String> = all
        .filter_map(|text| text.strip_prefix("error ").map(str::to_owned))
        .filter_map(|text| text.split('(').next().map(|name| format!("org.varlink.service.{name}")))
        .collect();
    let page = section(INTERFACE, "# ERRORS").lines().filter(|line| line.starts_with('*'));
    let page: BTreeSet<String> = page.map(|line| plain(line.split(' ').next().expect("a name"))).collect();
    assert_eq!(page, errors);
}

#[test]
fn every_property_of_policy_stands_in_its_page_and_no_other() {
    let source = include_str!("../src/kmod/hwdb.rs");
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
    let properties = arms.filter(|(_, does)| !does.starts_with("Mode::"));
    let parsed: BTreeSet<&str> = properties.map(|(property, _)| property).collect();
    assert!(parsed.contains("ADDONCE"), "hwdb.rs is not read as it was");
    let items = section(HWDB, "# PROPERTIES").lines().filter_map(|line| line.strip_prefix('*'));
    let page: BTreeSet<&str> = items.filter_map(|line| line.split_once("=*").map(|(name, _)| name)).collect();
    assert_eq!(page, parsed);
}

#[test]
fn every_example_of_policy_parses() {
    let blocks = literals(section(HWDB, "# EXAMPLES"));
    let properties: Vec<_> =
        blocks.iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix(' ')).collect();
    assert!(!properties.is_empty());
    for property in properties {
        let (key, value) = property.split_once('=').expect("KEY=VALUE");
        let mut policy = Policy::default();
        set(&mut policy, key, value).expect(property);
        assert_ne!(policy, Policy::default(), "{property} changes nothing");
    }
}
