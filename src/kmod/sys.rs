// SPDX-License-Identifier: MIT OR Apache-2.0
//! libkmod, declared by hand: every `unsafe` that concerns it.
//!
//! What comes out is owned (strings are copied at once) or counted (a [`Module`] holds a reference). Errors are the errno that
//! libkmod returned, never the global one; EINVAL, too, for a text with a NUL in it, which C cannot be given. libkmod is not
//! thread-safe, so a context and all its modules stay on one thread (raw pointers make them `!Send`). The ABI has been one set of
//! symbol versions since LIBKMOD_5 and LIBKMOD_6 (`libkmod.sym`), which is why declarations by hand are safe to keep.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_int, c_uint};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::sys::prctl;

use crate::once::Name;

/// Filters the blacklisted modules out: `enum kmod_filter`, `KMOD_FILTER_BLACKLIST`.
const FILTER_BLACKLIST: c_uint = 1;
/// `enum kmod_module_initstate`, `KMOD_MODULE_BUILTIN`: the one answer that comes from modules.builtin.bin.
const INITSTATE_BUILTIN: c_int = 0;
/// For finit_module(2): the kernel is to unpack the file. `MODULE_INIT_COMPRESSED_FILE` of linux/module.h, since Linux 5.17.
const COMPRESSED_FILE: u32 = 4;
/// Only what makes libkmod unusable: its LOG_ERR lines (a softdep that does not resolve, a module that vanished
/// while its state was read) are no errors to us, and would come again with every plan.
const LOG_CRIT: c_int = 2;

mod ffi {
    use std::ffi::{c_char, c_int, c_uint};

    #[repr(C)]
    pub struct Ctx([u8; 0]);
    #[repr(C)]
    pub struct Module([u8; 0]);
    #[repr(C)]
    pub struct List([u8; 0]);

    pub type Text = *const c_char;
    /// Where a new list is put.
    pub type NewList = *mut *mut List;

    // SAFETY: these are libkmod.h's own declarations; the symbols have had one version since LIBKMOD_5.
    #[link(name = "kmod")]
    unsafe extern "C" {
        pub fn kmod_new(dirname: Text, config_paths: *const Text) -> *mut Ctx;
        pub fn kmod_unref(ctx: *mut Ctx) -> *mut Ctx;
        pub fn kmod_set_log_priority(ctx: *mut Ctx, priority: c_int);
        pub fn kmod_load_resources(ctx: *mut Ctx) -> c_int;
        pub fn kmod_list_next(list: *const List, curr: *const List) -> *mut List;
        pub fn kmod_module_new_from_lookup(ctx: *mut Ctx, alias: Text, list: NewList) -> c_int;
        pub fn kmod_module_new_from_name(ctx: *mut Ctx, name: Text, module: *mut *mut Module) -> c_int;
        pub fn kmod_module_new_from_path(ctx: *mut Ctx, path: Text, module: *mut *mut Module) -> c_int;
        pub fn kmod_module_get_module(entry: *const List) -> *mut Module;
        pub fn kmod_module_unref(module: *mut Module) -> *mut Module;
        pub fn kmod_module_unref_list(list: *mut List) -> c_int;
        pub fn kmod_module_get_name(module: *const Module) -> Text;
        pub fn kmod_module_get_path(module: *const Module) -> Text;
        pub fn kmod_module_get_dependencies(module: *const Module) -> *mut List;
        pub fn kmod_module_get_softdeps(module: *const Module, pre: NewList, post: NewList) -> c_int;
        pub fn kmod_module_get_options(module: *const Module) -> Text;
        pub fn kmod_module_get_install_commands(module: *const Module) -> Text;
        pub fn kmod_module_get_initstate(module: *const Module) -> c_int;
        pub fn kmod_module_get_info(module: *const Module, list: NewList) -> c_int;
        pub fn kmod_module_info_get_key(entry: *const List) -> Text;
        pub fn kmod_module_info_get_value(entry: *const List) -> Text;
        pub fn kmod_module_info_free_list(list: *mut List);
        pub fn kmod_module_apply_filter(
            ctx: *const Ctx,
            filter: c_uint,
            input: *const List,
            output: NewList,
        ) -> c_int;
        pub fn kmod_module_insert_module(module: *mut Module, flags: c_uint, options: Text) -> c_int;
    }
}

/// A libkmod context: one module directory and one configuration, as they were when it was made.
pub struct Ctx {
    raw: NonNull<ffi::Ctx>,
}

/// A module of a context: a counted reference. Two are equal when they are the same object; a module that was found by an alias
/// is another object than the one made from its name (libkmod keys them by name and alias).
#[derive(PartialEq)]
pub struct Module<'ctx> {
    raw: NonNull<ffi::Module>,
    ctx: PhantomData<&'ctx Ctx>,
}

impl Ctx {
    /// A context over a module directory (`/lib/modules/VERSION`) and the given modprobe.d directories or files,
    /// or libkmod's own list of them. ENOMEM is the only cause of a failure that libkmod's source knows.
    pub fn new(directory: &Path, config: Option<&[PathBuf]>) -> Result<Self, Errno> {
        let directory = text(directory)?;
        let places = config.unwrap_or_default().iter().map(text).collect::<Result<Vec<_>, _>>()?;
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

    /// Maps the indexes into memory. Where that fails, lookups open the files.
    pub fn load_resources(&self) -> Result<(), Errno> {
        // SAFETY: the context is live.
        check(unsafe { ffi::kmod_load_resources(self.raw.as_ptr()) })
    }

    /// Every module that an alias or a name stands for, and whether its name is blacklisted: in libkmod's order and with its
    /// duplicates. EINVAL for an alias with unbalanced brackets, ENAMETOOLONG beyond PATH_MAX.
    pub fn lookup(&self, alias: &[u8]) -> Result<Vec<(Module<'_>, bool)>, Errno> {
        let (ctx, alias) = (self.raw.as_ptr(), text(OsStr::from_bytes(alias))?);
        let (mut found, mut allowed) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: context and string are live, and the list is an empty one, as libkmod demands.
        check(unsafe { ffi::kmod_module_new_from_lookup(ctx, alias.as_ptr(), &mut found) })?;
        // SAFETY: context and input list are live; the output is a new list with references of its own.
        let filtered =
            check(unsafe { ffi::kmod_module_apply_filter(ctx, FILTER_BLACKLIST, found, &mut allowed) });
        // SAFETY: both lists are ours and not used again.
        let (found, allowed) = unsafe { (modules(found), modules(allowed)) };
        filtered?;
        let with_verdict = |module| {
            let is_blacklisted = !allowed.contains(&module);
            (module, is_blacklisted)
        };
        Ok(found.into_iter().map(with_verdict).collect())
    }

    /// The module of this name, whether there is one or not.
    pub fn module(&self, name: &str) -> Result<Module<'_>, Errno> {
        let name = text(name)?;
        // SAFETY: context and string are live; the last argument is written on success only.
        new_module(|raw| unsafe { ffi::kmod_module_new_from_name(self.raw.as_ptr(), name.as_ptr(), raw) })
    }

    /// The module in this file. ENOENT and the other errnos of stat(2); ENOENT too for a file name that is no module's.
    pub fn module_from_path(&self, path: &Path) -> Result<Module<'_>, Errno> {
        let path = text(path)?;
        // SAFETY: as above.
        new_module(|raw| unsafe { ffi::kmod_module_new_from_path(self.raw.as_ptr(), path.as_ptr(), raw) })
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

    /// The module's name, underscores for dashes, if it is text: no file has another one.
    pub fn name(&self) -> Option<Name> {
        // SAFETY: the module is live.
        copied(unsafe { ffi::kmod_module_get_name(self.raw.as_ptr()) })?.to_str().ok().map(Name::from)
    }

    /// The module's file, as modules.dep has it.
    pub fn path(&self) -> Option<PathBuf> {
        // SAFETY: the module is live.
        let path = copied(unsafe { ffi::kmod_module_get_path(self.raw.as_ptr()) })?;
        Some(OsStr::from_bytes(path.to_bytes()).into())
    }

    /// The name by which the kernel will know the module, if its file says that: it need not be the file's.
    pub fn name_inside(&self) -> Option<Name> {
        let (mut list, mut name) = (ptr::null_mut(), None);
        // SAFETY: the module is live and the list an empty one; it stays so where the file cannot be read, and is freed below.
        unsafe { ffi::kmod_module_get_info(self.raw.as_ptr(), &mut list) };
        let mut entry = list;
        while !entry.is_null() {
            // SAFETY: the entry is one of this live list, with strings that live as long; behind the last one comes NULL.
            let (key, value) =
                unsafe { (ffi::kmod_module_info_get_key(entry), ffi::kmod_module_info_get_value(entry)) };
            if copied(key).as_deref() == Some(c"name") {
                name = copied(value);
            }
            // SAFETY: as above.
            entry = unsafe { ffi::kmod_list_next(list, entry) };
        }
        // SAFETY: the list is ours, and not used again.
        unsafe { ffi::kmod_module_info_free_list(list) };
        name?.to_str().ok().map(Name::from)
    }

    /// Hard dependencies: transitive, in load order. None at all when the file of one of them is missing:
    /// `kmod_module_parse_depline()` then drops the whole line.
    pub fn dependencies(&self) -> Vec<Module<'ctx>> {
        // SAFETY: the module is live; the list is a new one with references of its own, and not used again.
        unsafe { modules(ffi::kmod_module_get_dependencies(self.raw.as_ptr())) }
    }

    /// Soft dependencies to load before and after, of the first softdep line that matches. Each name is looked up
    /// like an alias, so it may stand for several modules or for none.
    pub fn softdeps(&self) -> (Vec<Module<'ctx>>, Vec<Module<'ctx>>) {
        let (mut pre, mut post) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the module is live and both lists are empty, as libkmod demands; they are ours then and not used again. It fails
        // on NULL arguments only.
        unsafe {
            ffi::kmod_module_get_softdeps(self.raw.as_ptr(), &mut pre, &mut post);
            (modules(pre), modules(post))
        }
    }

    /// Module parameters: every options line of the name, or of the alias by which the module was found.
    pub fn options(&self) -> CString {
        // SAFETY: the module is live.
        copied(unsafe { ffi::kmod_module_get_options(self.raw.as_ptr()) }).unwrap_or_default()
    }

    /// The first install line that matches the name, as it stands in modprobe.d.
    pub fn install(&self) -> Option<CString> {
        // SAFETY: the module is live.
        copied(unsafe { ffi::kmod_module_get_install_commands(self.raw.as_ptr()) })
    }

    /// Whether the module is part of the kernel image. The other answers of this function come from the host's
    /// /sys, which need not be the tree's, and are dropped.
    pub fn is_builtin(&self) -> bool {
        // SAFETY: the module is live.
        unsafe { ffi::kmod_module_get_initstate(self.raw.as_ptr()) == INITSTATE_BUILTIN }
    }

    /// Hands the module's file to the kernel, unpacked here if need be. The errno is the kernel's, or that of reading.
    pub fn insert(&self, options: &CStr) -> Result<(), Errno> {
        // SAFETY: module and string are live; no flag is given.
        check(unsafe { ffi::kmod_module_insert_module(self.raw.as_ptr(), 0, options.as_ptr()) })
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // SAFETY: every handle owns exactly one reference, and the context it borrows is still live.
        unsafe { ffi::kmod_module_unref(self.raw.as_ptr()) };
    }
}

/// From now on this thread is told `errno` when it asks the kernel to unpack a module's file, by a filter of its system calls
/// (seccomp(2)) for which it gives up to gain privileges by exec. ENOSYS has libkmod unpack the file itself (`do_finit_module()`,
/// kmod 31 and later), for which it has no flag.
pub fn refuse_compressed_files(errno: Errno) -> Result<(), Errno> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const LOW_HALF: usize = if cfg!(target_endian = "big") { 4 } else { 0 };
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let number = offset_of!(libc::seccomp_data, nr);
    let flags = offset_of!(libc::seccomp_data, args) + 2 * size_of::<u64>() + LOW_HALF;
    let filter = [
        step(LOAD, number as u32, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ, libc::SYS_finit_module as u32, 0, 3),
        step(LOAD, flags as u32, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JSET, COMPRESSED_FILE, 0, 1),
        step(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    prctl::set_no_new_privs()?;
    // SAFETY: the program is live, copied by the kernel, and not written to.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program)
    };
    Errno::result(result).map(drop)
}

fn new_module<'ctx>(new: impl FnOnce(&mut *mut ffi::Module) -> c_int) -> Result<Module<'ctx>, Errno> {
    let mut raw = ptr::null_mut();
    check(new(&mut raw))?;
    Module::take(raw).ok_or(Errno::ENOMEM)
}

/// The modules of a list of libkmod's, each with a reference of its own. NULL is an empty one.
///
/// # Safety
/// The list is the caller's, who does not use it again, and its context outlives the modules.
unsafe fn modules<'ctx>(list: *mut ffi::List) -> Vec<Module<'ctx>> {
    let mut modules = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: the entry is one of this live list; the call adds a reference, which the handle owns.
        modules.extend(Module::take(unsafe { ffi::kmod_module_get_module(entry) }));
        // SAFETY: as above; behind the last entry comes NULL.
        entry = unsafe { ffi::kmod_list_next(list, entry) };
    }
    // SAFETY: the list is ours, and freed here.
    unsafe { ffi::kmod_module_unref_list(list) };
    modules
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
}

/// A copy of a string of libkmod's: the caller has just been given it, and has not called libkmod since.
fn copied(string: ffi::Text) -> Option<CString> {
    // SAFETY: see above: it is NULL or a live C string.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_owned())
}

fn text(text: impl AsRef<OsStr>) -> Result<CString, Errno> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Errno::EINVAL)
}
