// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Oracle: addonce and modprobe, asked the same
//!
//! The installed modprobe is the reference for what a name stands for and in which order its modules are loaded.
//! Every module and every alias of a distribution's kernel is compared, and a fixture tree that has what
//! distributions seldom have. Where addonce means to differ, the query and the reason stand in a list here, and the
//! list has to be exact: a difference that is gone is as much a failure as a new one.

mod common;
#[path = "oracle/distribution.rs"]
mod distribution;
#[path = "oracle/modprobe.rs"]
mod modprobe;
#[path = "oracle/ours.rs"]
mod ours;
#[path = "oracle/request.rs"]
mod request;

use std::fs;
use std::time::Instant;

use addonce::kmod::{Resolver, Tree};
use addonce::once::{Cause, Modules, Verdict, Work};

use common::fixture::Fixture;
use modprobe::{Modprobe, Verb};
use ours::{flown, loaded, once, once_a_file, resolved};
use request::Kernel;

/// Queries to which addonce means to answer something else than modprobe, and why.
type Differences = [(&'static str, &'static str)];

const NONE: &Differences = &[];

/// What the core does beside: a plan names its softdeps, and no more.
const SOFTDEPS_BY_NAME: &Differences = &[(
    "fx_soft_options",
    "the softdep is an alias with options of its own: addonce loads the module with the options of its name",
)];

/// A plan is made of a module's name, while modprobe goes by the object that the lookup made.
const PLANNED_BY_NAME: &Differences = &[
    ("fx_loop_a", SOFT_CIRCLE),
    ("fx_loop_b", SOFT_CIRCLE),
    (
        "fx_ghost_pattern",
        "no module, two install lines, the first one a pattern: modprobe's lookup takes the line with the very name, \
         but as anybody's softdep it takes the first that matches, which a plan always does",
    ),
];

const SOFT_CIRCLE: &str = "softdeps in a circle, entered by a name: modprobe meets the module again, knows it, and puts it last; by an \
                           alias (fxloop:x) it thinks it new and puts it first, as addonce does whatever it was asked for";

/// What modprobe prints of a plan and does not do.
const PRINTED_ONLY: &Differences = &[
    ("fx_builtin_two", INSTALL_OF_BUILTIN),
    ("fx_soft_builtin", INSTALL_OF_BUILTIN),
    ("fxtwobuiltin:x", INSTALL_OF_BUILTIN),
];

const INSTALL_OF_BUILTIN: &str = "a module of the kernel image that has an install command: `-D` prints that, a load does not \
                                  run it, as the dry run shows";

/// Compares answer by answer; `list` must name exactly the queries that differ.
fn compare(
    what: &str,
    queries: &[Vec<u8>],
    theirs: &[Vec<String>],
    ours: &[Vec<String>],
    list: &Differences,
) {
    let mut found = Vec::new();
    for ((query, theirs), ours) in queries.iter().zip(theirs).zip(ours) {
        if theirs != ours {
            let query = String::from_utf8_lossy(query).into_owned();
            if !list.iter().any(|(known, _)| *known == query) {
                println!("{what}: {query}\n  modprobe: {theirs:#?}\n  addonce:  {ours:#?}");
            }
            found.push(query);
        }
    }
    found.sort();
    let mut known: Vec<&str> = list.iter().map(|(query, _)| *query).collect();
    known.sort_unstable();
    assert_eq!(found, known, "{what}: the queries that differ, and the list of those that may");
}

fn answers(queries: &[Vec<u8>], answer: impl FnMut(&[u8]) -> Vec<String>) -> Vec<Vec<String>> {
    queries.iter().map(Vec::as_slice).map(answer).collect()
}

#[test]
fn the_plan_of_every_module_of_the_distribution_is_modprobes() {
    let Some(tree) = distribution::tree() else { return };
    let start = Instant::now();
    let names = distribution::module_names(&tree.directory());
    let mut resolver = Resolver::open(tree.clone()).expect("resolver");
    let theirs: Vec<_> =
        Modprobe::over(&tree).ask(Verb::DependsUnlessBlacklisted, &names).into_iter().map(loaded).collect();
    let ours = answers(&names, |name| flown(&mut resolver, name));
    compare("plan", &names, &theirs, &ours, NONE);
    println!("{} modules compared in {:.1} s", names.len(), start.elapsed().as_secs_f64());
}

#[test]
fn every_alias_of_the_distribution_resolves_as_modprobe_resolves_it() {
    let Some(tree) = distribution::tree() else { return };
    let start = Instant::now();
    let aliases = distribution::aliases(&tree.directory());
    let mut resolver = Resolver::open(tree.clone()).expect("resolver");
    let theirs: Vec<_> = Modprobe::over(&tree).ask(Verb::Resolve, &aliases).into_iter().map(once).collect();
    let ours = answers(&aliases, |alias| resolved(&mut resolver, alias));
    compare("resolution", &aliases, &theirs, &ours, NONE);
    let unmatched = ours.iter().filter(|modules| modules.is_empty()).count();
    println!(
        "{} aliases compared in {:.1} s, {unmatched} match nothing",
        aliases.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(unmatched * 100 < aliases.len(), "nearly every string that was made of a pattern matches it");
}

#[test]
fn modprobe_answers_alone_as_it_does_in_bulk() {
    let Some(tree) = distribution::tree() else { return };
    let modprobe = Modprobe::over(&tree);
    let directory = tree.directory();
    for (verb, questions, each) in [
        (Verb::Depends, distribution::module_names(&directory), 97),
        (Verb::Resolve, distribution::aliases(&directory), 997),
    ] {
        let some: Vec<_> = questions.into_iter().step_by(each).collect();
        let alone = answers(&some, |question| modprobe.ask_alone(verb, question));
        compare("alone", &some, &modprobe.ask(verb, &some), &alone, NONE);
    }
}

#[test]
fn the_fixture_resolves_as_modprobe_resolves_it() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let queries = fixture.queries();
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let theirs: Vec<_> =
        Modprobe::over(&fixture.tree()).ask(Verb::Resolve, &queries).into_iter().map(once).collect();
    compare(
        "resolution",
        &queries,
        &theirs,
        &answers(&queries, |query| resolved(&mut resolver, query)),
        NONE,
    );
}

#[test]
fn the_fixture_is_planned_as_modprobe_plans_it() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let queries = fixture.queries();
    let modprobe = Modprobe::over(&fixture.tree());
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");

    let theirs: Vec<_> =
        modprobe.ask(Verb::DependsUnlessBlacklisted, &queries).into_iter().map(loaded).collect();
    let ours = answers(&queries, |query| flown(&mut resolver, query));
    compare("plan", &queries, &theirs, &ours, &[PLANNED_BY_NAME, SOFTDEPS_BY_NAME, PRINTED_ONLY].concat());
}

#[test]
fn the_fixture_is_loaded_as_udev_would_load_it() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let queries = fixture.queries();
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let theirs: Vec<_> =
        Modprobe::over(&fixture.tree()).ask(Verb::DryRun, &queries).into_iter().map(once_a_file).collect();
    let ours = answers(&queries, |query| flown(&mut resolver, query));
    compare("flight", &queries, &theirs, &ours, &[PLANNED_BY_NAME, SOFTDEPS_BY_NAME].concat());
}

/// What the kernel's own requests exit with, where every load succeeds. Those that are left to modprobe are these.
fn compare_exit_codes(tree: &Tree, names: &[Vec<u8>]) -> Vec<String> {
    let mut kernel = Kernel::over(tree);
    let ours: Vec<Option<i32>> = names.iter().map(|name| kernel.exit_code(name)).collect();
    let theirs = Modprobe::over(tree).exit_codes(names);
    let mut left = Vec::new();
    let mut differ = Vec::new();
    for ((name, ours), theirs) in names.iter().zip(ours).zip(theirs) {
        let text = String::from_utf8_lossy(name).into_owned();
        match ours {
            None => left.push(text),
            Some(_) if ours == theirs => {}
            Some(_) => differ.push((text, ours, theirs)),
        }
    }
    assert!(differ.is_empty(), "name, ours, modprobe's: {differ:#?}");
    left
}

#[test]
fn the_kernels_requests_exit_as_modprobe_does_for_every_module_and_2000_aliases_of_the_distribution() {
    let Some(tree) = distribution::tree() else { return };
    let mut names = distribution::module_names(&tree.directory());
    let dashed: Vec<Vec<u8>> = names.iter().step_by(10).cloned().collect();
    names.extend(dashed.iter().map(|name| name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect()));
    let aliases: Vec<Vec<u8>> =
        distribution::aliases(&tree.directory()).into_iter().filter(|alias| alias.len() <= 55).collect();
    let each = aliases.len() / 2000;
    names.extend(aliases.into_iter().step_by(each.max(1)));
    let unknown =
        ["nothing", "net-pf-99", "crypto-nothing", "crypto-nothing-all", "fs-", "binfmt-464c", "x y"];
    names.extend(unknown.map(|name| name.as_bytes().to_vec()));
    let left = compare_exit_codes(&tree, &names);
    println!("{} names compared, {} left to modprobe: {left:?}", names.len(), left.len());
    assert!(left.len() * 100 < names.len(), "{left:?}");
}

#[test]
fn the_kernels_requests_exit_as_modprobe_does_in_the_fixture() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let names = fixture.queries();
    let left = compare_exit_codes(&fixture.tree(), &names);
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    for name in names {
        let text = String::from_utf8_lossy(&name).into_owned();
        let lines = flown(&mut resolver, &name);
        let takes_a_command = lines.iter().any(|line| line.starts_with("install "));
        assert!(!takes_a_command || left.contains(&text), "{text}: {lines:#?}");
    }
    println!("left to modprobe: {left:?}");
}

/// The cause of a module's plan, after the resolver has looked for changes.
fn cause(resolver: &mut Resolver, module: &str) -> Cause {
    resolver.refresh();
    resolver.plan(&module.into(), None).cause
}

#[test]
fn a_fix_is_seen_by_the_module_it_is_for_and_by_no_other() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let conf = fixture.config().join("install.conf");
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(&conf).expect("read");
        assert!(text.contains(from));
        fs::write(&conf, text.replace(from, to)).expect("write");
    };
    let replace = |module: &str| {
        let other = fixture.file("other");
        fs::copy(fixture.file(module), &other).expect("copy");
        fs::rename(&other, fixture.file(module)).expect("rename");
    };
    let fixes: [(&str, &str, &dyn Fn()); 5] = [
        ("an option corrected in place", "fx_opt", &|| {
            fs::write(fixture.config().join("zzz.conf"), "options fx_opt own=2\n").expect("write");
        }),
        ("an install command corrected in place", "fx_inst_soft_none", &|| {
            edit("/bin/not-ignored", "/bin/fixed")
        }),
        ("the file replaced", "fx_hidden", &|| replace("fx_hidden")),
        ("the file of a dependency replaced", "fx_needs_black", &|| replace("fx_black")),
        ("the options of a dependency corrected", "fx_needs_inst", &|| {
            fs::write(fixture.config().join("y.conf"), "options fx_inst tabbed=6\n").expect("write");
        }),
    ];
    for (fix, module, perform) in fixes {
        let before = [module, "fx_twin"].map(|module| cause(&mut resolver, module));
        perform();
        let after = [module, "fx_twin"].map(|module| cause(&mut resolver, module));
        assert_ne!(before[0], after[0], "{fix}: {module}");
        assert_eq!(before[1], after[1], "{fix}: fx_twin has nothing to do with it");
    }
}

#[test]
fn depmod_run_again_is_a_new_cause_for_every_module() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let before = cause(&mut resolver, "fx_twin");
    fixture.depmod();
    assert_ne!(before, cause(&mut resolver, "fx_twin"));
    assert_eq!(
        resolver.plan(&"fx_needs_gone".into(), None).deps,
        ["fx_base".into()],
        "fx_gone is gone for depmod too"
    );
}

#[test]
fn a_blacklist_line_removed_lets_the_module_in() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let verdict = |resolver: &mut Resolver| resolver.resolve(b"fxblack:x")[0].verdict;
    assert_eq!(verdict(&mut resolver), Verdict::Blacklisted);
    let conf = fixture.config().join("a.conf");
    let text = fs::read_to_string(&conf).expect("read");
    fs::write(&conf, text.replace("blacklist fx_black", "#lacklist fx_black")).expect("write");
    assert!(resolver.refresh());
    assert_eq!(verdict(&mut resolver), Verdict::Load);
}

#[test]
fn verdicts_and_options_go_with_the_candidate() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let mut only = |alias: &[u8]| resolver.resolve(alias).remove(0);
    assert_eq!(only(b"fxbuiltin:x").verdict, Verdict::Builtin);
    assert_eq!(
        only(b"fx_black").verdict,
        Verdict::Blacklisted,
        "by name as well: that is udev's way, not modprobe's"
    );
    assert_eq!(only(b"fxopt:abd").options, None);
    assert_eq!(
        only(b"fxopt:abc").options.as_ref().map(|options| options.as_c_str()),
        Some(c"own=1 byalias=2")
    );
}

#[test]
fn what_cannot_be_looked_up_is_an_empty_resolution() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
    let long = vec![b'a'; 5000];
    for alias in [&b""[..], b"fx_base\0", b"\xff\xfe", b"[", b"]", &long] {
        assert!(resolver.resolve(alias).is_empty(), "{}", alias.escape_ascii());
    }
    assert_eq!(resolver.plan(&"fx_nothing".into(), None).work, Work::Missing);
    assert_eq!(resolver.plan(&"a\0b".into(), None).work, Work::Missing);
}

#[test]
fn the_variable_in_an_install_command_becomes_the_options_and_a_blank() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let cases = [
        ("/bin/x $CMDLINE_OPTS;y", "a=1 b=2", c"/bin/x a=1 b=2 ;y"),
        ("$CMDLINE_OPTS$CMDLINE_OPTS", "a", c"a a "),
        ("x$CMDLINE_OPTS", "", c"x"),
        ("x $CMDLINE_OPT", "a", c"x $CMDLINE_OPT"),
        ("$CMDLINE_OPTS", "a=$CMDLINE_OPTS", c"a=$CMDLINE_OPTS "),
    ];
    for (command, options, expected) in cases {
        let options = if options.is_empty() { String::new() } else { format!("options fx_twin {options}\n") };
        let conf = format!("install fx_twin {command}\n{options}");
        fs::write(fixture.config().join("aaa.conf"), conf).expect("write");
        let mut resolver = Resolver::open(fixture.tree()).expect("resolver");
        let Work::Install { command: became, .. } = resolver.plan(&"fx_twin".into(), None).work else {
            panic!("{command} is not run");
        };
        assert_eq!(became.as_c_str(), expected, "{command}");
    }
}
