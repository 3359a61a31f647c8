// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system whose kernel, udev and kmod a guest gets: this host's, or another release of Debian.
//!
//! Another release is a tree, `systems/RELEASE` in the lab's directory, made once by `tools/debian-root` together with what
//! builds modules for its kernel (root, some minutes, 800 MB); remove it to have a newer one. Nothing of it runs here but in a
//! chroot. Whatever a guest gets of a system comes with that system's libraries, and so does addonce's binary, wherever it was
//! built: one of an older release runs on a newer one.

use crate::{package, tools};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where Debian has libraries, and systemd those of its own.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd"];
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// For debootstrap, whose mirror may be slow; two minutes do.
const MAKING: &str = "20m";

#[derive(Clone, Debug)]
pub struct System {
    /// As debootstrap calls it, if it is not this host's.
    pub release: Option<String>,
    /// The directory that is its `/`.
    root: PathBuf,
}

impl System {
    pub fn host() -> Self {
        Self { release: None, root: "/".into() }
    }

    /// That release, or else this host's.
    pub fn obtain(release: Option<&str>) -> Result<Self, String> {
        let Some(release) = release else { return Ok(Self::host()) };
        let dir = tools::lab_dir()?.join("systems").join(release);
        let of = |root: PathBuf| Self { release: Some(release.into()), root };
        package::once(&dir, |partial| of(partial.join("tree")).make(release))?;
        Ok(of(dir.join("tree")))
    }

    fn make(&self, release: &str) -> Result<(), String> {
        eprintln!("lab: making a Debian {release} to take kernel, udev and kmod from (some minutes)");
        copy(&debian_root(release)?, &self.root)?;
        self.apt("apt-get", &["-qq", "update"], &self.root)?;
        let headers = package::depends(self, "linux-headers-amd64")?;
        let headers = headers.iter().find(|name| name.starts_with("linux-headers-"));
        let headers = headers.ok_or("linux-headers-amd64 depends on no headers")?;
        let mut packages = package::depends(self, headers)?;
        // The compiler of the kernel's build, and its tools for the libraries that these need.
        packages.retain(|name| {
            ["gcc-", "linux-compiler-", "linux-kbuild-"].iter().any(|one| name.starts_with(one))
        });
        let packages = packages.iter().map(String::as_str).chain(["kmod", "make"]).collect::<Vec<_>>();
        package::download(self, &self.root, &packages)?;
        let install = "apt-get -qq install -y --no-install-recommends /lab/debs/*.deb && rm -r /lab";
        inside(&self.root, &["sh", "-c", install])
    }

    /// A directory or file of it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn find(&self, program: &str) -> Result<PathBuf, String> {
        let Some(release) = &self.release else { return tools::find(program) };
        let places = ["usr/sbin", "usr/bin"].map(|dir| self.root.join(dir).join(program));
        places
            .into_iter()
            .find(|path| path.is_file())
            .ok_or(format!("{program} is missing from Debian {release}"))
    }

    /// Where a file of the system is in the guest. /bin, /sbin and /lib are links into /usr there.
    pub fn in_guest(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy();
        match path.split('/').next() {
            Some("bin" | "sbin" | "lib" | "lib64") => format!("usr/{path}"),
            _ => path.into(),
        }
    }

    /// The libraries of this system that a program needs, be the program of it or not; none for a static one or a script.
    pub fn libraries(&self, program: &Path) -> Result<Vec<PathBuf>, String> {
        let program = program.canonicalize().map_err(|e| format!("{}: {e}", program.display()))?;
        let directories = LIBRARIES.map(|dir| self.path(dir).display().to_string()).join(":");
        let loader = self.path(LOADER).display().to_string();
        let program = program.display().to_string();
        let args = ["--inhibit-cache", "--library-path", &directories, "--list", &program];
        let Ok(text) = tools::output(&loader, &args, Path::new("/")) else { return Ok(Vec::new()) };
        parse_list(&text).map_err(|missing| {
            let release =
                self.release.as_ref().map_or("this host".into(), |release| format!("Debian {release}"));
            format!("{program} needs {missing}, which {release} does not have")
        })
    }

    /// A library by its name, if it is there.
    pub fn library(&self, name: &str) -> Option<PathBuf> {
        LIBRARIES.iter().map(|dir| self.path(dir).join(name)).find(|path| path.is_file())
    }

    /// Runs apt about this system. It is the host's apt, which knows its proxies, with the system's sources, lists and keys.
    pub fn apt(&self, program: &str, args: &[&str], dir: &Path) -> Result<String, String> {
        let root = self.root.display();
        let options = [
            format!("Dir={root}"),
            format!("Dir::State::status={root}/var/lib/dpkg/status"),
            "APT::Sandbox::User=root".into(),
        ];
        let options = options.iter().filter(|_| self.release.is_some()).flat_map(|option| ["-o", option]);
        tools::output(program, &options.chain(args.iter().copied()).collect::<Vec<_>>(), dir)
    }

    /// Runs one of its programs on files of the lab.
    pub fn run(&self, program: &str, args: &[&str], dir: &Path) -> Result<(), String> {
        match self.release {
            None => tools::output(program, args, dir).map(drop),
            Some(_) => inside_with(&tools::lab_dir()?, &self.root, &[&[program], args].concat()),
        }
    }

    /// A minimal Debian of this release, to be copied.
    pub fn debian_root(&self) -> Result<PathBuf, String> {
        match &self.release {
            Some(release) => debian_root(release),
            None => {
                debian_root(&suite(&String::from_utf8_lossy(&tools::read(Path::new("/etc/os-release"))?))?)
            }
        }
    }
}

fn parse_list(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some((name, "not found")) = line.split_once(" => ") {
            return Err(name.into());
        }
        let path =
            line.split_once(" => ").map_or(line, |(_, path)| path).split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

fn debian_root(suite: &str) -> Result<PathBuf, String> {
    let lab = tools::lab_dir()?;
    let script = tools::source_dir().join("../../tools/debian-root").display().to_string();
    let args = [MAKING, "env", &format!("LAB_DIR={}", lab.display()), &script, suite];
    tools::output("timeout", &args, &lab).map(|root| root.trim().into())
}

/// The name of this host's release.
fn suite(os_release: &str) -> Result<String, String> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(|name| name.trim_matches('"').into())
        .ok_or("/etc/os-release names no release: a guest boots the one of its host".into())
}

/// Runs a program in a Debian tree as if that were the system.
pub fn inside(tree: &Path, command: &[&str]) -> Result<(), String> {
    inside_with(Path::new(""), tree, command)
}

/// The same, with a directory of the host in it, where it is there.
fn inside_with(shared: &Path, tree: &Path, command: &[&str]) -> Result<(), String> {
    if !is_root()? {
        return Err("programs of a Debian run in a chroot: run it as root".into());
    }
    let script = tools::source_dir().join("debian/inside").display().to_string();
    let tree = tree.display().to_string();
    let shared = format!("SHARED={}", shared.display());
    let args = [&[shared.as_str(), "sh", &script, &tree], command].concat();
    tools::output("env", &args, Path::new("/")).map(drop)
}

pub fn is_root() -> Result<bool, String> {
    std::fs::metadata("/proc/self").map(|meta| meta.uid() == 0).map_err(|e| format!("/proc/self: {e}"))
}

pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let args = [Path::new("-a"), Path::new("--reflink=auto"), Path::new("-T"), from, to];
    tools::output("cp", &args, Path::new("/")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_with_and_without_an_arrow() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(parse_list(text).unwrap(), ["/lib/x/libc.so.6", "/lib64/ld.so"].map(PathBuf::from));
        assert_eq!(parse_list("\tlibgone.so.1 => not found\n"), Err("libgone.so.1".into()));
        assert_eq!(parse_list("\tstatically linked\n"), Ok(vec![]));
    }

    #[test]
    fn a_program_of_this_host_comes_with_its_libraries() {
        let libraries = System::host().libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")), "{libraries:?}");
    }

    #[test]
    fn files_of_the_old_top_level_directories_go_below_usr_whatever_the_system_s_root() {
        for root in ["/", "/lab/systems/trixie/tree"] {
            let system = System { release: None, root: root.into() };
            let in_guest = |path: &str| system.in_guest(&system.path(path));
            assert_eq!(in_guest("/lib/x/libc.so.6"), "usr/lib/x/libc.so.6");
            assert_eq!(in_guest("/usr/lib/udev/ata_id"), "usr/lib/udev/ata_id");
            assert_eq!(in_guest("/etc/modprobe.d/x.conf"), "etc/modprobe.d/x.conf");
        }
    }

    #[test]
    fn the_release_of_the_host_is_the_one_that_is_booted() {
        let text = "NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(suite(text), Ok("bookworm".into()));
        assert!(suite("ID=other\n").unwrap_err().contains("names no release"));
    }
}
