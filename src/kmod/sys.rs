// SPDX-License-Identifier: MIT OR Apache-2.0
//! libkmod, declared by hand: every `unsafe` that concerns it.
//!
//! What comes out is owned (strings are copied at once) or counted (a [`Module`] holds a reference). Errors are the errno that
//! libkmod returned, never the global one. libkmod is not thread-safe, so a context and all its modules stay on one thread (raw
//! pointers make them `!Send`). The ABI has been one set of symbol versions since LIBKMOD_5 and LIBKMOD_6 (`libkmod.sym`),
//! which is why declarations by hand are safe to keep.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use nix::errno::Errno;

use crate::once::Name;

/// Filters the blacklisted modules out: `enum kmod_filter`, `KMOD_FILTER_BLACKLIST`.
const FILTER_BLACKLIST: c_uint = 1;
/// `enum kmod_module_initstate`, `KMOD_MODULE_BUILTIN`: the one answer that comes from modules.builtin.bin.
const INITSTATE_BUILTIN: c_int = 0;
/// Only the steps, whatever is live: `enum kmod_probe`, `KMOD_PROBE_IGNORE_LOADED` and `KMOD_PROBE_DRY_RUN`.
const PROBE_STEPS: c_uint = 0x8 | 0x10;
/// Only what makes libkmod unusable: its LOG_ERR lines (a softdep that does not resolve, a module that vanished
/// while its state was read) are no errors to us, and would come again with every plan.
const LOG_CRIT: c_int = 2;

mod ffi {
    use super::{c_char, c_int, c_uint, c_void};

    #[repr(C)]
    pub struct Ctx {
        _opaque: [u8; 0],
    }

    #[repr(C)]
    pub struct Module {
        _opaque: [u8; 0],
    }

    #[repr(C)]
    pub struct List {
        _opaque: [u8; 0],
    }

    // SAFETY: these are libkmod.h's own declarations, word for word; the symbols have had one version since LIBKMOD_5.
    #[link(name = "kmod")]
    unsafe extern "C" {
        pub fn kmod_new(dirname: *const c_char, config_paths: *const *const c_char) -> *mut Ctx;
        pub fn kmod_unref(ctx: *mut Ctx) -> *mut Ctx;
        pub fn kmod_set_log_priority(ctx: *mut Ctx, priority: c_int);
        pub fn kmod_load_resources(ctx: *mut Ctx) -> c_int;
        pub fn kmod_list_next(list: *const List, curr: *const List) -> *mut List;
        pub fn kmod_module_new_from_lookup(
            ctx: *mut Ctx,
            alias: *const c_char,
            list: *mut *mut List,
        ) -> c_int;
        pub fn kmod_module_new_from_name(
            ctx: *mut Ctx,
            name: *const c_char,
            module: *mut *mut Module,
        ) -> c_int;
        pub fn kmod_module_new_from_path(
            ctx: *mut Ctx,
            path: *const c_char,
            module: *mut *mut Module,
        ) -> c_int;
        pub fn kmod_module_get_module(entry: *const List) -> *mut Module;
        pub fn kmod_module_ref(module: *mut Module) -> *mut Module;
        pub fn kmod_module_unref(module: *mut Module) -> *mut Module;
        pub fn kmod_module_unref_list(list: *mut List) -> c_int;
        pub fn kmod_module_get_name(module: *const Module) -> *const c_char;
        pub fn kmod_module_get_path(module: *const Module) -> *const c_char;
        pub fn kmod_module_get_dependencies(module: *const Module) -> *mut List;
        pub fn kmod_module_get_softdeps(
            module: *const Module,
            pre: *mut *mut List,
            post: *mut *mut List,
        ) -> c_int;
        pub fn kmod_module_get_options(module: *const Module) -> *const c_char;
        pub fn kmod_module_get_install_commands(module: *const Module) -> *const c_char;
        pub fn kmod_module_get_initstate(module: *const Module) -> c_int;
        pub fn kmod_module_apply_filter(
            ctx: *const Ctx,
            filter: c_uint,
            input: *const List,
            output: *mut *mut List,
        ) -> c_int;
        pub fn kmod_module_insert_module(module: *mut Module, flags: c_uint, options: *const c_char)
        -> c_int;
        pub fn kmod_module_probe_insert_module(
            module: *mut Module,
            flags: c_uint,
            extra_options: *const c_char,
            run_install: Option<extern "C" fn(*mut Module, *const c_char, *mut c_void) -> c_int>,
            data: *const c_void,
            print_action: Option<extern "C" fn(*mut Module, bool, *const c_char)>,
        ) -> c_int;
    }
}

/// A libkmod context: one module directory and one configuration, as they were when it was made.
pub struct Ctx {
    raw: NonNull<ffi::Ctx>,
}

/// A module of a context: a counted reference. Two are equal when they are the same object; a module that was found by an alias
/// is another object than the one made from its name (libkmod keys them by name and alias).
pub struct Module<'ctx> {
    raw: NonNull<ffi::Module>,
    ctx: PhantomData<&'ctx Ctx>,
}

/// Counted references to the modules of one list of libkmod's.
struct List<'ctx> {
    head: *mut ffi::List,
    ctx: PhantomData<&'ctx Ctx>,
}

impl Ctx {
    /// A context over a module directory (`/lib/modules/VERSION`) and the given modprobe.d directories or files,
    /// or libkmod's own list of them.
    ///
    /// # Errors
    /// EINVAL for a path with a NUL in it. ENOMEM: libkmod names no cause, and lack of memory is the only one its source knows.
    pub fn new(directory: &Path, config: Option<&[PathBuf]>) -> Result<Self, Errno> {
        let directory = text(directory.as_os_str().as_bytes())?;
        let places = config.unwrap_or_default().iter().map(|place| text(place.as_os_str().as_bytes()));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let list: Vec<_> = places.iter().map(|place| place.as_ptr()).chain([ptr::null()]).collect();
        let list = config.map_or(ptr::null(), |_| list.as_ptr());
        // SAFETY: both arguments are live C strings resp. a NULL-terminated array of such (or NULL, which stands
        // for the default list); libkmod copies what it keeps.
        let raw = unsafe { ffi::kmod_new(directory.as_ptr(), list) };
        let ctx = Self { raw: NonNull::new(raw).ok_or(Errno::ENOMEM)? };
        // SAFETY: the context is live.
        unsafe { ffi::kmod_set_log_priority(ctx.raw.as_ptr(), LOG_CRIT) };
        Ok(ctx)
    }

    /// Maps the indexes into memory, so that lookups need not open them.
    ///
    /// # Errors
    /// The errno of the index that could not be mapped. The context stays usable: lookups then open the files.
    pub fn load_resources(&self) -> Result<(), Errno> {
        // SAFETY: the context is live.
        check(unsafe { ffi::kmod_load_resources(self.raw.as_ptr()) })
    }

    /// Every module that an alias or a name stands for, and whether its name is blacklisted: in libkmod's order and with its
    /// duplicates.
    ///
    /// # Errors
    /// EINVAL for an alias with unbalanced brackets or a NUL, ENAMETOOLONG beyond PATH_MAX, ENOMEM.
    pub fn lookup(&self, alias: &[u8]) -> Result<Vec<(Module<'_>, bool)>, Errno> {
        let alias = text(alias)?;
        let (mut found, mut allowed) = (List::empty(), List::empty());
        // SAFETY: context and string are live, and the list is an empty one, as libkmod demands.
        check(unsafe {
            ffi::kmod_module_new_from_lookup(self.raw.as_ptr(), alias.as_ptr(), &mut found.head)
        })?;
        // SAFETY: context and input list are live; the output is a new list with references of its own.
        check(unsafe {
            ffi::kmod_module_apply_filter(self.raw.as_ptr(), FILTER_BLACKLIST, found.head, &mut allowed.head)
        })?;
        let allowed = allowed.modules();
        let with_verdict = |module| {
            let blacklisted = !allowed.contains(&module);
            (module, blacklisted)
        };
        Ok(found.modules().into_iter().map(with_verdict).collect())
    }

    /// The module of this name, whether there is one or not.
    ///
    /// # Errors
    /// EINVAL for a NUL, ENOMEM.
    pub fn module(&self, name: &str) -> Result<Module<'_>, Errno> {
        let name = text(name.as_bytes())?;
        // SAFETY: context and string are live; the last argument is written on success only.
        self.new_module(|raw| unsafe {
            ffi::kmod_module_new_from_name(self.raw.as_ptr(), name.as_ptr(), raw)
        })
    }

    /// The module in this file.
    ///
    /// # Errors
    /// ENOENT and the other errnos of stat(2); ENOENT too for a file name that is no module's.
    pub fn module_from_path(&self, path: &Path) -> Result<Module<'_>, Errno> {
        let path = text(path.as_os_str().as_bytes())?;
        // SAFETY: as above.
        self.new_module(|raw| unsafe {
            ffi::kmod_module_new_from_path(self.raw.as_ptr(), path.as_ptr(), raw)
        })
    }

    fn new_module(&self, new: impl FnOnce(&mut *mut ffi::Module) -> c_int) -> Result<Module<'_>, Errno> {
        let mut raw = ptr::null_mut();
        check(new(&mut raw))?;
        Module::take(raw).ok_or(Errno::ENOMEM)
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        // SAFETY: this is the one reference that `new` was given; modules borrow the context, so none is left.
        unsafe { ffi::kmod_unref(self.raw.as_ptr()) };
    }
}

impl<'ctx> Module<'ctx> {
    /// Takes over a reference that libkmod handed out.
    fn take(raw: *mut ffi::Module) -> Option<Self> {
        NonNull::new(raw).map(|raw| Self { raw, ctx: PhantomData })
    }

    /// The module's name, underscores for dashes, if it is text; the kernel's own names are ASCII, and no file stands behind
    /// another one.
    pub fn name(&self) -> Option<Name> {
        // SAFETY: the module is live.
        copied(unsafe { ffi::kmod_module_get_name(self.raw.as_ptr()) })?.to_str().ok().map(Name::from)
    }

    /// The module's file, as modules.dep has it.
    pub fn path(&self) -> Option<PathBuf> {
        // SAFETY: the module is live; the string is copied before anything can change it.
        let path = copied(unsafe { ffi::kmod_module_get_path(self.raw.as_ptr()) })?;
        Some(OsString::from_vec(path.into_bytes()).into())
    }

    /// Hard dependencies: transitive, in load order. None at all when the file of one of them is missing:
    /// `kmod_module_parse_depline()` then drops the whole line.
    pub fn dependencies(&self) -> Vec<Module<'ctx>> {
        // SAFETY: the module is live; the list is a new one with references of its own.
        let head = unsafe { ffi::kmod_module_get_dependencies(self.raw.as_ptr()) };
        List { head, ctx: PhantomData }.modules()
    }

    /// Soft dependencies to load before and after, of the first softdep line that matches. Each name is looked up
    /// like an alias, so it may stand for several modules or for none.
    pub fn softdeps(&self) -> (Vec<Module<'ctx>>, Vec<Module<'ctx>>) {
        let (mut pre, mut post) = (List::empty(), List::empty());
        // SAFETY: the module is live and both lists are empty, as libkmod demands. It fails on NULL arguments only.
        unsafe { ffi::kmod_module_get_softdeps(self.raw.as_ptr(), &mut pre.head, &mut post.head) };
        (pre.modules(), post.modules())
    }

    /// Module parameters: every options line of the name, or of the alias by which the module was found.
    pub fn options(&self) -> CString {
        // SAFETY: the module is live; the string is copied before anything can change it.
        copied(unsafe { ffi::kmod_module_get_options(self.raw.as_ptr()) }).unwrap_or_default()
    }

    /// The first install line that matches the name, as it stands in modprobe.d.
    pub fn install(&self) -> Option<CString> {
        // SAFETY: the module is live; the string belongs to the context and is copied at once.
        copied(unsafe { ffi::kmod_module_get_install_commands(self.raw.as_ptr()) })
    }

    /// Whether the module is part of the kernel image. The other answers of this function come from the host's
    /// /sys, which need not be the tree's, and are dropped.
    pub fn is_builtin(&self) -> bool {
        // SAFETY: the module is live.
        unsafe { ffi::kmod_module_get_initstate(self.raw.as_ptr()) == INITSTATE_BUILTIN }
    }

    /// Hands the module's file to the kernel, decompressed in this process if need be.
    ///
    /// # Errors
    /// The errno of the kernel, or of reading the file.
    pub fn insert(&self, options: &CStr) -> Result<(), Errno> {
        // SAFETY: module and string are live; no flag is given.
        check(unsafe { ffi::kmod_module_insert_module(self.raw.as_ptr(), 0, options.as_ptr()) })
    }

    /// What loading the module takes, with all that goes before and after it, as `modprobe --show-depends` prints it: a line a
    /// step. Nothing is loaded.
    pub fn steps(&self) -> Vec<String> {
        STEPS.take();
        let (module, nothing) = (self.raw.as_ptr(), ptr::null());
        // SAFETY: the module is live; NULL stands for no options, no data and libkmod's own way of running commands, which a dry
        // run does not do. It fails for lack of memory only.
        unsafe {
            ffi::kmod_module_probe_insert_module(
                module,
                PROBE_STEPS,
                nothing,
                None,
                nothing.cast(),
                Some(note),
            );
        }
        STEPS.take()
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // SAFETY: every handle owns exactly one reference, and the context it borrows is still live.
        unsafe { ffi::kmod_module_unref(self.raw.as_ptr()) };
    }
}

impl PartialEq for Module<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<'ctx> List<'ctx> {
    fn empty() -> Self {
        Self { head: ptr::null_mut(), ctx: PhantomData }
    }

    /// The list's modules, each with a reference of its own.
    fn modules(&self) -> Vec<Module<'ctx>> {
        let mut modules = Vec::new();
        let mut entry = self.head;
        while !entry.is_null() {
            // SAFETY: the entry is one of this live list; the call adds a reference, which the handle owns.
            modules.extend(Module::take(unsafe { ffi::kmod_module_get_module(entry) }));
            // SAFETY: as above; behind the last entry comes NULL.
            entry = unsafe { ffi::kmod_list_next(self.head, entry) };
        }
        modules
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        // SAFETY: the list is this value's own; NULL is an empty one.
        unsafe { ffi::kmod_module_unref_list(self.head) };
    }
}

thread_local! {
    /// The steps so far: libkmod hands [`note`] no data of ours.
    static STEPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes a step as modprobe prints it: nothing of a name without file and command that is not builtin either.
extern "C" fn note(module: *mut ffi::Module, is_install: bool, options: *const c_char) {
    // SAFETY: libkmod calls this with a live module; the handle owns the reference that is added.
    let Some(module) = Module::take(unsafe { ffi::kmod_module_ref(module) }) else { return };
    let (word, object) = match (module.install().filter(|_| is_install), module.path()) {
        (Some(command), _) => ("install", command.to_string_lossy().into_owned()),
        (None, Some(file)) => ("insmod", file.to_string_lossy().into_owned()),
        (None, None) => {
            let name = module.name().filter(|_| module.is_builtin());
            return STEPS.with_borrow_mut(|steps| steps.extend(name.map(|name| format!("builtin {name}"))));
        }
    };
    let options = copied(options).unwrap_or_default();
    STEPS.with_borrow_mut(|steps| steps.push(format!("{word} {object} {}", options.to_string_lossy())));
}

/// Bytes as C takes them: without NUL.
fn text(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
}

/// A copy of a string of libkmod's; the caller vouches that it is NULL or a live C string.
fn copied(string: *const c_char) -> Option<CString> {
    // SAFETY: see above: every caller passes what libkmod has just returned, before the next call into it.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_owned())
}
