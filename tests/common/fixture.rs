// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Fixture: a module tree made of a case on disk
//!
//! A case is a folder of tests/cases/kmod: `modules` says what each module file holds, `modprobe.d` is the
//! configuration, `modules.builtin` and `modules.builtin.modinfo` are the kernel image's part, `queries` are asked.
//! The module files are made with a C compiler alone: for depmod and modprobe a few strings and symbols are a module.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use addonce::kmod::Tree;

use super::tool::{have, tool};

pub const VERSION: &str = "0.0.0-addonce";

/// What it takes. A C compiler is what rustc links with, and modprobe comes with depmod.
pub const TOOLS: [&str; 2] = ["cc", "depmod"];

pub struct Fixture {
    root: tempfile::TempDir,
    case: PathBuf,
}

/// One paragraph of `modules`.
struct Spec<'a> {
    name: &'a str,
    facts: Vec<(&'a str, &'a str)>,
}

impl Fixture {
    /// Builds the tree of a case, where there is what it takes; else the test is left out.
    pub fn try_build(case: &str) -> Option<Self> {
        have(&TOOLS).then(|| Self::build(case))
    }

    /// Builds the tree of a case, for a test in a namespace: where a tool is missing it ends here, left out.
    pub fn build(case: &str) -> Self {
        assert!(have(&TOOLS));
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/kmod").join(case);
        let fixture = Self { root: tempfile::tempdir().expect("tempdir"), case };
        fs::create_dir_all(fixture.directory().join("kernel")).expect("mkdir");
        fs::create_dir(fixture.config()).expect("mkdir");
        for file in fs::read_dir(fixture.case.join("modprobe.d")).expect("modprobe.d").flatten() {
            fs::copy(file.path(), fixture.config().join(file.file_name())).expect("copy");
        }
        let text = fs::read_to_string(fixture.case.join("modules")).expect("modules");
        let specs = parse(&text);
        for spec in &specs {
            let file = fixture.file(spec.name);
            tool(
                "cc",
                &["-c", "-x", "c", "-", "-o"]
                    .map(OsStr::new)
                    .iter()
                    .copied()
                    .chain([file.as_os_str()])
                    .collect::<Vec<_>>(),
                &spec.source(),
                fixture.root.path(),
            );
        }
        let order: String = specs.iter().map(|spec| format!("kernel/{}.ko\n", spec.name)).collect();
        fs::write(fixture.directory().join("modules.order"), order).expect("write");
        fs::copy(fixture.case.join("modules.builtin"), fixture.directory().join("modules.builtin"))
            .expect("copy");
        let modinfo = fs::read_to_string(fixture.case.join("modules.builtin.modinfo")).expect("modinfo");
        fs::write(fixture.directory().join("modules.builtin.modinfo"), modinfo.replace('\n', "\0"))
            .expect("write");
        fixture.depmod();
        for spec in specs.iter().filter(|spec| spec.facts.iter().any(|(fact, _)| *fact == "gone")) {
            fs::remove_file(fixture.file(spec.name)).expect("remove");
        }
        fixture
    }

    /// Runs depmod over the tree.
    pub fn depmod(&self) {
        let arguments = [OsStr::new("-b"), self.root.path().as_os_str(), OsStr::new(VERSION)];
        tool("depmod", &arguments, "", self.root.path());
    }

    /// The flags by which addonce is told of this tree.
    pub fn flags(&self) -> Vec<String> {
        let modules_dir = self.root.path().join("lib/modules");
        [
            format!("--modules-dir={}", modules_dir.display()),
            format!("--kernel={VERSION}"),
            format!("--config={}", self.config().display()),
        ]
        .into()
    }

    pub fn tree(&self) -> Tree {
        let (modules_dir, config) = (self.root.path().join("lib/modules"), vec![self.config()]);
        Tree { modules_dir, kernel: VERSION.into(), sysfs: "/sys".into(), config }
    }

    /// The modprobe.d directory: a copy, which tests may change.
    pub fn config(&self) -> PathBuf {
        self.root.path().join("modprobe.d")
    }

    /// A module's file.
    pub fn file(&self, module: &str) -> PathBuf {
        self.directory().join(format!("kernel/{module}.ko"))
    }

    /// The name of every module, and every line of `queries`.
    pub fn queries(&self) -> Vec<Vec<u8>> {
        let [modules, queries] =
            ["modules", "queries"].map(|name| fs::read_to_string(self.case.join(name)).expect(name));
        let names = parse(&modules).iter().map(|spec| spec.name.to_owned()).collect::<BTreeSet<_>>();
        let asked = queries.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        names.into_iter().chain(asked).map(String::into_bytes).collect()
    }

    /// What a command is expected to print about this case.
    pub fn expected(&self, name: &str) -> String {
        let path = self.expectation(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Where that stands.
    pub fn expectation(&self, name: &str) -> PathBuf {
        self.case.join("expected").join(name)
    }

    /// The directory of the modules and the indexes.
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("lib/modules").join(VERSION)
    }
}

fn parse(text: &str) -> Vec<Spec<'_>> {
    let mut specs: Vec<Spec<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("    ") {
            None => specs.push(Spec { name: line, facts: Vec::new() }),
            Some(fact) => {
                let fact = fact.split_once(' ').unwrap_or((fact, ""));
                specs.last_mut().expect("a module's name first").facts.push(fact);
            }
        }
    }
    specs
}

impl Spec<'_> {
    /// The C text of a file that depmod takes for this module.
    fn source(&self) -> String {
        let mut source = String::from("#define IN(s) __attribute__((section(s), used, aligned(1)))\n");
        for (at, (fact, value)) in self.facts.iter().enumerate() {
            source += &match *fact {
                "alias" => format!("static const char i{at}[] IN(\".modinfo\") = \"alias={value}\";\n"),
                "name" => format!("static const char i{at}[] IN(\".modinfo\") = \"name={value}\";\n"),
                "softdep" => format!("static const char i{at}[] IN(\".modinfo\") = \"softdep={value}\";\n"),
                "exports" => format!("static const char i{at}[] IN(\"__ksymtab_strings\") = \"{value}\";\n"),
                "needs" => format!("extern int {value}; int *i{at} = &{value};\n"),
                "gone" => String::new(),
                fact => panic!("{}: what is `{fact}`?", self.name),
            };
        }
        source
    }
}
