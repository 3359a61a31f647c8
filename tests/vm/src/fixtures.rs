// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel modules that fail, sleep and depend on each other as they are told: `tests/vm/fixtures`, built.
//!
//! Owns `headers/` and `fixtures/` in the lab's directory. It promises modules that fit the guest's kernel, built
//! once per kernel and state of the sources, by the distribution's own headers and kbuild, which are unpacked and
//! not installed: Debian's top makefile names its parts by absolute paths, and kbuild's O= names them anew.
//! Some 80 MB per version of the headers, and half a minute for the build.

use crate::kernel::Kernel;
use crate::system::System;
use crate::{host, package, tools};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Fixtures {
    /// What joins the guest's module tree.
    pub modules: Vec<PathBuf>,
    /// Other builds of some of them, which a scenario may install over the first.
    pub rebuilt: Vec<PathBuf>,
}

/// Packed as xz does by itself, and as no kernel can unpack it.
const PACKED: &str = "addonce_packed.ko";

pub struct Headers {
    /// linux-headers-RELEASE: the configuration, and what was made from it.
    output: PathBuf,
    /// linux-headers-...-common: the headers themselves.
    source: PathBuf,
}

pub fn obtain(kernel: &Kernel) -> Result<Fixtures, String> {
    let sources = sources()?;
    // How they are built is part of what they are.
    let all: String = sources.iter().map(|(name, text)| format!("{name}\n{text}\n")).collect();
    let key = format!("{}-{:016x}", kernel.key, host::fingerprint(&(all + include_str!("fixtures.rs"))));
    let dir = tools::lab_dir()?.join("fixtures").join(key);
    package::once(&dir, |partial| {
        for (name, text) in &sources {
            tools::write(&partial.join(name), text)?;
        }
        build(&kernel.system, &headers(kernel)?, &[partial.to_owned(), partial.join("rebuilt")])?;
        tools::output("xz", &["--check=crc64", PACKED], partial).map(drop)
    })?;
    let (modules, rebuilt) = (modules(&dir)?, modules(&dir.join("rebuilt"))?);
    Ok(Fixtures { modules, rebuilt })
}

/// Path and text of every source.
fn sources() -> Result<Vec<(String, String)>, String> {
    let dir = tools::source_dir().join("fixtures");
    let text =
        |name: &str| String::from_utf8(tools::read(&dir.join(name))?).map_err(|e| format!("{name}: {e}"));
    let mut names = tools::names(&dir)?;
    names.retain(|name| dir.join(name).is_file());
    names.push("rebuilt/Kbuild".into());
    names.into_iter().map(|name| Ok((name.clone(), text(&name)?))).collect()
}

/// The modules in a directory.
pub fn modules(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let names =
        tools::names(dir)?.into_iter().filter(|name| name.ends_with(".ko") || name.ends_with(".ko.xz"));
    Ok(names.map(|name| dir.join(name)).collect())
}

pub fn headers(kernel: &Kernel) -> Result<Headers, String> {
    let package = format!("linux-headers-{}", kernel.release);
    let dir = tools::lab_dir()?.join("headers").join(&kernel.key);
    package::once(&dir, |partial| {
        let mut packages = package::depends(&kernel.system, &package)?;
        // The third one depends on the compiler, and that has to be there in earnest.
        packages.retain(|name| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-"));
        packages.push(package.clone());
        package::unpack(&kernel.system, &packages, &partial.join("tree"))
    })?;
    let src = dir.join("tree/usr/src");
    let common = tools::names(&src)?.into_iter().find(|name| name.ends_with("-common"));
    let common = common.ok_or(format!("{}: no linux-headers-*-common", src.display()))?;
    let headers = Headers { output: src.join(package), source: src.join(common) };
    for tool in ["scripts/mod/modpost", "tools/objtool/objtool"] {
        let tool = headers.output.join(tool);
        if tool.is_file() {
            kernel.system.libraries(&tool)?;
        }
    }
    Ok(headers)
}

/// Builds the modules of each of these directories, which has a Kbuild.
pub fn build(system: &System, headers: &Headers, dirs: &[PathBuf]) -> Result<(), String> {
    let variables = tools::read(&headers.output.join(".kernelvariables"))?;
    if let Some(compiler) = compiler(&String::from_utf8_lossy(&variables)) {
        system.find(&compiler)?;
    }
    eprintln!("lab: building modules");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    for dir in dirs {
        let source = headers.source.display().to_string();
        let (output, here) = (format!("O={}", headers.output.display()), format!("M={}", dir.display()));
        system.run("make", &["-C", &source, &format!("-j{jobs}"), &output, &here, "modules"], dir)?;
        let mut strip = vec![PathBuf::from("--strip-debug")];
        strip.extend(modules(dir)?);
        tools::output("strip", &strip, dir)?;
    }
    Ok(())
}

/// The compiler the headers want: the one the kernel was built with. Those of sid name it as a cross compiler, even for this machine.
fn compiler(variables: &str) -> Option<String> {
    let line = variables.lines().find(|line| line.starts_with("CC = "))?;
    let gcc = line.trim_end().rsplit([' ', ')']).next().filter(|word| word.starts_with("gcc"))?;
    let prefix = variables.lines().find_map(|line| line.strip_prefix("override CROSS_COMPILE = "));
    Some(prefix.filter(|prefix| !prefix.contains('$')).unwrap_or_default().to_owned() + gcc)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_headers_name_their_compiler() {
        let debian = "override ARCH = x86\nCC = $(if $(X)),$(CCACHE)) $(CROSS_COMPILE)gcc-12\nY = y\n";
        let of = |variables: &str| super::compiler(variables).unwrap();
        assert_eq!(of(debian), "gcc-12");
        assert_eq!(
            of("CC = $(CROSS_COMPILE)gcc-14 \noverride CROSS_COMPILE = $(DEB_HOST_GNU_TYPE)-\n"),
            "gcc-14"
        );
        assert_eq!(
            of("CC = $(CROSS_COMPILE)gcc-16\noverride CROSS_COMPILE = x86_64-linux-gnu-\n"),
            "x86_64-linux-gnu-gcc-16"
        );
        assert_eq!(super::compiler(""), None);
    }

    #[test]
    fn every_file_of_the_sources_is_among_them() {
        let names: Vec<_> = super::sources().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Kbuild", "bus.c", "bus.h", "cpu.c", "fixture.h", "soft.c", "rebuilt/Kbuild"]);
    }
}
