// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results made from what a guest writes, and results compared.

use super::*;
use crate::trace;

const RAW: &str = r#"@@init
@@fact kernel 6.1.0-56-amd64
@@fact udev 252
@@fact kmod 30
@@section live-before

@@end
@@mark 14 trigger
@@fact centiseconds 1766
@@fact cpu_jiffies 2912
@@fact mem_drop_kb 45588
@@fact lost
@@fact missed 0
@@section memory
0 2900000
20 2890000
@@end
@@section live
evdev
button
@@end
@@section trace
 (udev-worker)-1 [000] ..... 1.1: ko_open: (do_filp_open+0x0/0x160) by="(udev-worker)" file="/lib/modules/6.1/button.ko"
 (udev-worker)-1 [000] ...1. 1.2: sys_finit_module(fd: 6, uargs: 7e, flags: 0)
 (udev-worker)-1 [000] ...1. 1.3: sys_finit_module -> 0x0
 (udev-worker)-1 [000] ...1. 1.4: sys_finit_module(fd: 6, uargs: 7e, flags: 0)
 (udev-worker)-1 [000] ...1. 1.5: sys_finit_module -> 0xffffffffffffffef
@@end
@@done
"#;

fn result(raw: &str) -> Result<LabResult, String> {
    let raw = Raw::parse(raw)?;
    let trace = trace::parse(raw.section("trace")?)?;
    LabResult::new(&raw, trace.calls, "stock", 64, "7.2".into())
}

fn with(live: &[&str], attempts: &[(&str, u32)]) -> LabResult {
    let attempts = attempts.iter().map(|(module, n)| (module.to_string(), ByErrno::from([("0".into(), *n)])));
    LabResult {
        scenario: "addonce".into(),
        live: live.iter().map(|s| s.to_string()).collect(),
        attempts: attempts.collect(),
        ..LabResult::default()
    }
}

#[test]
fn calls_are_counted_in_total_by_errno_by_caller_and_by_module() {
    let result = result(RAW).unwrap();
    assert_eq!(result.calls.total, 2);
    assert_eq!(result.calls.by_errno, ByErrno::from([("0".into(), 1), ("EEXIST".into(), 1)]));
    assert_eq!(result.calls.by_caller, BTreeMap::from([("(udev-worker)".into(), 2)]));
    assert_eq!(result.attempts["button"]["EEXIST"], 1);
    assert_eq!(result.repeated(), BTreeMap::from([("button", 2)]));
}

#[test]
fn the_loading_threads_of_addonce_are_one_caller() {
    let result = result(&RAW.replace("(udev-worker)", "+intel_uncore")).unwrap();
    assert_eq!(result.calls.by_caller, BTreeMap::from([("addonce".into(), 2)]));
}

#[test]
fn live_modules_are_sorted_and_times_are_in_seconds() {
    let result = result(RAW).unwrap();
    assert_eq!(result.live, ["button", "evdev"]);
    assert_eq!((result.seconds, result.cpu_jiffies), (17.66, 2912));
    assert_eq!(result.marks, [("trigger".to_string(), 0.14)]);
}

#[test]
fn memory_over_time_and_the_order_of_the_modules_are_kept() {
    let result = result(RAW).unwrap();
    assert_eq!(result.memory, [(0, 2_900_000), (20, 2_890_000)]);
    assert_eq!(result.order, ["button"]);
    assert_eq!(result.daemon, None);
}

#[test]
fn lost_events_and_missed_probes_are_errors() {
    let lost = RAW.replace("@@fact lost\n", "@@fact lost per_cpu/cpu0/stats:overrun: 12\n");
    assert!(result(&lost).unwrap_err().contains("overrun: 12"));
    let missed = RAW.replace("@@fact missed 0", "@@fact missed 3");
    assert!(result(&missed).unwrap_err().contains("lost events"));
}

#[test]
fn a_module_that_was_live_before_the_storm_is_an_error() {
    let text = RAW.replace("@@section live-before\n\n", "@@section live-before\nusbcore\n");
    assert!(result(&text).unwrap_err().contains("usbcore"));
}

#[test]
fn a_result_survives_being_written_and_read() {
    let written = result(RAW).unwrap();
    let text = serde_json::to_string(&written).unwrap();
    assert_eq!(serde_json::from_str::<LabResult>(&text).unwrap(), written);
    assert!(!text.contains("\"log\""), "no log, no field");
}

#[test]
fn a_run_with_one_call_per_module_and_everything_live_has_no_faults() {
    let reference = with(&["evdev"], &[("evdev", 20)]);
    let run = with(&["button", "evdev"], &[("evdev", 1), ("button", 1)]);
    assert_eq!(run.faults_against(&reference), Vec::<String>::new());
}

#[test]
fn faults_name_missing_and_repeated_modules_and_a_different_machine() {
    let reference = LabResult { cpus: 64, ..with(&["button", "evdev"], &[]) };
    let faults = with(&["evdev"], &[("evdev", 2)]).faults_against(&reference);
    assert_eq!(faults.len(), 3);
    assert!(faults[0].contains("64 CPUs"), "{}", faults[0]);
    assert!(faults[1].ends_with(": button"), "{}", faults[1]);
    assert!(faults[2].ends_with("evdev (2)"), "{}", faults[2]);
}

#[test]
fn what_nothing_asks_for_is_not_missed() {
    let reference = with(&["evdev", "sg"], &[]);
    let mut run = with(&["evdev"], &[]);
    assert_eq!(run.faults_against(&reference).len(), 1);
    run.not_asked_for = vec!["sg".into()];
    assert_eq!(run.faults_against(&reference), Vec::<String>::new());
}

#[test]
fn a_module_that_failed_and_is_not_spoken_of_is_a_fault() {
    let stock = with(&["evdev"], &[("evdev", 1)]);
    let mut run = with(&["evdev"], &[("evdev", 1), ("acpi_cpufreq", 1)]);
    run.attempts.insert("acpi_cpufreq".into(), ByErrno::from([("ENODEV".into(), 1)]));
    assert_eq!(run.faults_against(&stock), [""; 0], "a scenario that does not ask");
    let told =
        |lines: &[&str]| Some(lines.iter().map(|line| (*line).into()).chain(["and more".into()]).collect());
    for lines in [&["acpi_cpufreq   ENODEV  insert"][..], &["acpi_cpufreq", "               ENODEV  insert"]]
    {
        run.failed = told(lines);
        assert_eq!(run.faults_against(&stock), [""; 0]);
    }
    for lines in
        [&["acpi_cpufreq   EIO     read"][..], &["acpi_cpufreq_x ENODEV  insert"], &["acpi_cpufreq", "x"]]
    {
        run.failed = told(lines);
        assert!(run.faults_against(&stock)[0].contains("silent about acpi_cpufreq"), "{lines:?}");
    }
}

#[test]
fn a_boot_that_is_to_be_stock_s_may_repeat_as_stock_does_and_differ_in_nothing_else() {
    let stock = with(&["evdev"], &[("evdev", 20), ("acpi_cpufreq", 64)]);
    let boot = Boot { multi_user: true, state: "running".into(), as_stock: true, ..Boot::default() };
    let mut run = LabResult { boot: Some(boot), ..with(&["evdev"], &[("evdev", 3), ("acpi_cpufreq", 64)]) };
    assert_eq!(run.faults_against(&stock), [""; 0]);
    run.attempts.remove("acpi_cpufreq");
    run.live.push("button".into());
    run.calls.by_caller.insert("addonce".into(), 1);
    let faults = run.faults_against(&stock);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[0].ends_with("with addonce: button"), "{}", faults[0]);
    assert!(faults[1].ends_with("only: acpi_cpufreq"), "{}", faults[1]);
}

#[test]
fn a_boot_that_went_wrong_is_a_fault_whatever_it_loaded() {
    let stock = with(&["evdev"], &[("evdev", 1)]);
    let run = LabResult { boot: Some(Boot::default()), ..with(&["evdev"], &[("evdev", 1)]) };
    assert!(run.faults_against(&stock)[0].contains("multi-user"), "{:?}", run.faults_against(&stock));
}

#[test]
fn a_module_that_is_to_fail_first_has_to_and_no_other_may() {
    let tried = |module: &str, errnos: &[(&str, u32)]| {
        let errnos = errnos.iter().map(|(errno, n)| (errno.to_string(), *n)).collect();
        LabResult { attempts: [(module.to_string(), errnos)].into(), ..LabResult::default() }
    };
    let faults = |run: LabResult| {
        LabResult { twice: vec!["virtio_rng".into()], ..run }.faults_against(&LabResult::default())
    };
    assert_eq!(faults(tried("virtio_rng", &[("ENOENT", 1), ("0", 1)])), [""; 0]);
    assert!(faults(tried("virtio_rng", &[("0", 1)]))[0].contains("virtio_rng was not tried twice"));
    assert!(
        faults(tried("virtio_rng", &[("ENOENT", 2), ("0", 1)]))[0].contains("virtio_rng was not tried twice")
    );
    assert!(
        faults(tried("evdev", &[("ENOENT", 1), ("0", 1)])).iter().any(|fault| fault.contains("evdev (2)"))
    );
}

#[test]
fn a_storm_that_runs_too_many_programs_is_a_fault_and_a_small_one_is_no_storm() {
    let stock = LabResult { cpus: 64, ..with(&["evdev"], &[("evdev", 20)]) };
    let run = |programs: u32, cpus: u32| LabResult {
        cpus,
        modaliases: 400,
        most_programs: Some(5),
        programs: [("addonce-load".to_string(), programs), ("addonce".to_string(), 999)].into(),
        ..with(&["evdev"], &[("evdev", 1)])
    };
    assert_eq!(run(20, 64).faults_against(&stock), [""; 0]);
    assert!(run(21, 64).faults_against(&stock)[0].contains("21 times for 400 devices"));
    let stock = LabResult { cpus: 16, ..stock };
    assert_eq!(run(21, 16).faults_against(&stock), [""; 0]);
}

#[test]
fn a_module_may_be_tried_as_often_as_the_scenario_can_explain() {
    let stock = with(&["evdev"], &[("evdev", 20)]);
    let run = LabResult { most_tries: Some(3), ..with(&["evdev"], &[("evdev", 3), ("button", 4)]) };
    assert!(run.faults_against(&stock)[0].ends_with("inserted more than 3 times: button (4)"));
}
