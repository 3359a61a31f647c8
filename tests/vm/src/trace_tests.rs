// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace parser against text recorded in guests, shortened and joined.

use super::*;

const HEAD: &str = "# tracer: nop\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n#              | |         |   |||||     |         |\n";

/// Two udev workers of Linux 6.1 on two CPUs, each in the other's way.
const INTERLEAVED: &str = r#"   (udev-worker)-112     [000] .....    21.267504: ko_open: (do_filp_open+0x0/0x160) by="(udev-worker)" file="/lib/modules/6.1.0-56-amd64/kernel/drivers/cpufreq/acpi-cpufreq.ko"
   (udev-worker)-112     [000] ...1.    21.268080: sys_finit_module(fd: 6, uargs: 7efd28198efd, flags: 0)
   (udev-worker)-117     [001] .....    21.280635: ko_open: (do_filp_open+0x0/0x160) by="(udev-worker)" file="/lib/modules/6.1.0-56-amd64/kernel/drivers/cpufreq/pcc-cpufreq.ko"
   (udev-worker)-117     [001] ...1.    21.281418: sys_finit_module(fd: 6, uargs: 7efd28198efd, flags: 0)
   (udev-worker)-112     [001] ...1.    21.282904: sys_finit_module -> 0xfffffffffffffff0
   (udev-worker)-117     [000] ...1.    21.289904: sys_finit_module -> 0xffffffffffffffed
   (udev-worker)-112     [001] .....    21.290142: ko_open: (do_filp_open+0x0/0x160) by="(udev-worker)" file="/lib/modules/6.1.0-56-amd64/kernel/drivers/acpi/button.ko"
   (udev-worker)-112     [001] ...1.    21.302639: sys_finit_module(fd: 6, uargs: 7efd28198efd, flags: 0)
   (udev-worker)-112     [001] ...1.    21.317949: sys_finit_module -> 0x0
"#;

fn calls(text: &str) -> Vec<(String, String, String)> {
    let calls = parse(&format!("{HEAD}{text}")).unwrap().calls;
    calls.into_iter().map(|call| (call.module, call.caller, errno_name(call.errno))).collect()
}

fn call(module: &str, caller: &str, errno: &str) -> (String, String, String) {
    (module.into(), caller.into(), errno.into())
}

#[test]
fn interleaved_threads_keep_their_modules_and_errnos_apart() {
    let expected = [
        call("acpi_cpufreq", "(udev-worker)", "EBUSY"),
        call("pcc_cpufreq", "(udev-worker)", "ENODEV"),
        call("button", "(udev-worker)", "0"),
    ];
    assert_eq!(calls(INTERLEAVED), expected);
}

#[test]
fn a_compressed_module_inserted_by_init_module_is_a_call_like_any_other() {
    let text = r#"        modprobe-90      [000] .....    11.2: ko_open: (do_filp_open+0x0/0x1) by="modprobe" file="/usr/lib/modules/6.12/kernel/fs/ext4/ext4.ko.xz"
        modprobe-90      [000] ...1.    11.3: sys_init_module(umod: 7f4a, len: 1c2d8, uargs: 55d2)
        modprobe-90      [000] ...1.    11.9: sys_init_module -> 0xffffffffffffffef
"#;
    assert_eq!(calls(text), [call("ext4", "modprobe", "EEXIST")]);
}

#[test]
fn a_name_that_the_kernel_did_not_note_is_read_where_the_file_was_opened() {
    let text = r#"        <...>-1204    [001] .....    90.1: ko_open: (do_filp_open+0x0/0x1) by="+hang5" file="/lib/modules/6.1/hang5.ko"
        addonce-1204    [001] ...1.    90.2: sys_finit_module(fd: 3, uargs: 7e, flags: 0)
"#;
    assert_eq!(calls(text), [call("hang5", "+hang5", "unfinished")]);
}

#[test]
fn the_last_file_opened_is_what_the_call_is_for() {
    let text = r#"   addonce-load 3-9       [000] .....    1.1: ko_open: (do_filp_open+0x0/0x1) by="addonce-load 3" file="/lib/modules/6.1/a.ko"
   addonce-load 3-9       [000] .....    1.2: ko_open: (do_filp_open+0x0/0x1) by="addonce-load 3" file="/lib/modules/6.1/b-c.ko"
   addonce-load 3-9       [000] ...1.    1.3: sys_finit_module(fd: 6, uargs: 7e, flags: 4)
   addonce-load 3-9       [000] ...1.    1.4: sys_finit_module -> 0xfffffffffffffffe
"#;
    assert_eq!(calls(text), [call("b_c", "addonce-load 3", "ENOENT")]);
    assert_eq!(parse(text).unwrap().opened.len(), 2);
}

#[test]
fn a_call_that_never_returned_is_counted_as_unfinished() {
    let text: String = INTERLEAVED.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(calls(&text), [call("acpi_cpufreq", "(udev-worker)", "unfinished")]);
}

#[test]
fn a_return_whose_call_began_before_the_trace_counts_nothing() {
    let text = "   (udev-worker)-112     [001] ...1.    21.28: sys_finit_module -> 0x0\n";
    assert_eq!(calls(text), []);
}

#[test]
fn a_call_that_cannot_be_given_a_name_is_an_error() {
    let text = "   (udev-worker)-112     [000] ...1.    21.2: sys_finit_module(fd: 6, uargs: 7e, flags: 0)\n";
    assert!(parse(text).unwrap_err().contains("opened no module"));
}

#[test]
fn a_file_name_the_kernel_could_not_read_is_an_error() {
    let text = "         udevadm-132     [000] .....    19.7: ko_open: (do_filp_open+0x0/0x170) by=\"udevadm\" file=(fault)\n";
    assert!(parse(text).unwrap_err().contains("(fault)"));
}

#[test]
fn a_line_that_is_no_event_is_an_error_that_shows_it() {
    assert!(parse("CPU:1 [LOST 812 EVENTS]\n").unwrap_err().contains("LOST 812"));
}

#[test]
fn a_mark_stands_between_the_calls() {
    let (before, after) =
        INTERLEAVED.split_once("   (udev-worker)-117     [001] ...1.    21.281418").unwrap();
    let mark = "              sh-99      [001] .....    21.281000: tracing_mark_write: lab: cpu again\n";
    let text = format!("{before}{mark}   (udev-worker)-117     [001] ...1.    21.281418{after}");
    let trace = parse(&text).unwrap();
    assert_eq!(trace.marks, [Mark { text: "cpu again".into(), at: 21.281, calls: 1 }]);
    assert_eq!(trace.calls[2].returned, Some(21.317949));
}

#[test]
fn an_errno_without_a_name_keeps_its_number() {
    assert_eq!(errno_name(Some(71)), "errno 71");
}

#[test]
fn what_pid_1_becomes_stands_between_calls() {
    let text = r#"
 busybox-1 [000] ..... 1.0: sched_process_exec: filename=/init pid=1 old_pid=1
 modprobe-70 [000] ..... 1.1: ko_open: (do_filp_open+0x0/0x160) by="modprobe" file="/lib/modules/6.1/virtio_blk.ko"
 modprobe-70 [000] ...1. 1.2: sys_finit_module(fd: 6, uargs: 7e, flags: 0)
 modprobe-70 [000] ...1. 1.3: sys_finit_module -> 0x0
 run-init-1 [000] ..... 2.5: sched_process_exec: filename=/sbin/init pid=1 old_pid=1
"#;
    let inits = parse(text).unwrap().inits;
    let seen: Vec<_> = inits.iter().map(|init| (init.text.as_str(), init.at, init.calls)).collect();
    assert_eq!(seen, [("/init", 1.0, 0), ("/sbin/init", 2.5, 1)]);
}

#[test]
fn starts_of_addonce_s_programs_are_counted() {
    let text = r#"
 (udev-worker)-70 [000] ..... 1.0: sched_process_exec: filename=/usr/bin/addonce-load pid=70 old_pid=70
 addonce-load-71 [001] ..... 1.1: sched_process_exec: filename=/usr/bin/addonce pid=71 old_pid=71
 (udev-worker)-72 [000] ..... 1.2: sched_process_exec: filename=/usr/bin/addonce-load pid=72 old_pid=72
"#;
    let trace = parse(text).unwrap();
    assert_eq!(trace.programs, BTreeMap::from([("addonce".into(), 1), ("addonce-load".into(), 2)]));
    assert!(trace.inits.is_empty());
}

#[test]
fn what_a_scenario_starts_after_its_boot_is_not_counted() {
    let text = r#"
 (udev-worker)-70 [000] ..... 1.0: sched_process_exec: filename=/usr/bin/addonce-load pid=70 old_pid=70
 sh-71 [001] ..... 1.1: tracing_mark_write: lab: booted
 (udev-worker)-72 [000] ..... 1.2: sched_process_exec: filename=/usr/bin/addonce-load pid=72 old_pid=72
"#;
    assert_eq!(parse(text).unwrap().programs, BTreeMap::from([("addonce-load".into(), 1)]));
}
