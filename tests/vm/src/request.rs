// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storms of the kernel's own requests, modprobe and addonce-modprobe by turns: what they cost, beside each other, and
//! whether that is what it was to be.
//!
//! Owns the lines `storm CASE WHO key=value ...` and `memory CASE WHO HUNDREDTHS:KB ...` of a scenario's log, one of each
//! for a storm. It promises medians over all turns, and an error for a line nobody can read.

use crate::curves::{Axis, Curve, Panel, Picture};
use crate::figure::Figure;
use crate::result::LabResult;
use crate::table;
use crate::trace::errno_name;
use std::collections::BTreeMap;

const CASES: [(&str, &str); 10] = [
    ("0008", "0008: 58 requests by name, not loaded"),
    ("0009", "0009: 62 times get_fs_type(\"xfs\"), not loaded"),
    ("0008-alone", "0008 without kmod.sh"),
    ("0009-alone", "0009 without kmod.sh"),
    ("live", "58 requests, the module is live"),
    ("nope", "58 requests, no such module"),
    ("enodev", "58 requests, the module says ENODEV"),
    ("stopped", "0008 without kmod.sh, the daemon is stopped in the middle"),
    ("died", "0008 without kmod.sh, it is stopped in the middle and then killed"),
    ("killed", "0008 without kmod.sh, it was killed before"),
];

/// Of these, what happens to the daemon. With stock they would be 0008-alone.
const DISTURBED: [&str; 3] = ["stopped", "died", "killed"];

#[derive(Debug, Default, PartialEq)]
struct Storm {
    seconds: f64,
    /// It did not come to what it was to come to.
    failed: i64,
    helpers: i64,
    modprobes: i64,
    inserts: BTreeMap<String, i64>,
    cpu_seconds: f64,
    /// Seconds since the storm began, and MB taken.
    memory: Vec<(f64, f64)>,
}

type Storms<'a> = BTreeMap<(&'a str, &'a str), Vec<Storm>>;

fn storms(log: &[String]) -> Result<Storms<'_>, String> {
    let mut storms = Storms::new();
    for line in log {
        let words: Vec<&str> = line.split_whitespace().collect();
        let cannot = || format!("the scenario logged a storm that nobody can read: {line}");
        match words[..] {
            ["storm", case, who, ref values @ ..] => {
                let storm = storm(values).ok_or_else(cannot)?;
                storms.entry((case, who)).or_default().push(storm);
            }
            ["memory", case, who, ref samples @ ..] => {
                let last = storms.get_mut(&(case, who)).and_then(|storms| storms.last_mut());
                let samples: Option<Vec<_>> = samples.iter().map(|sample| point(sample)).collect();
                last.ok_or_else(cannot)?.memory = samples.ok_or_else(cannot)?;
            }
            _ => {}
        }
    }
    if storms.is_empty() { Err("the log holds no storm of requests".into()) } else { Ok(storms) }
}

fn storm(values: &[&str]) -> Option<Storm> {
    let values: BTreeMap<&str, &str> =
        values.iter().map(|value| value.split_once('=')).collect::<Option<_>>()?;
    let number = |name: &str| values.get(name)?.parse::<i64>().ok();
    let inserts = values.get("inserts")?.split(',').filter(|insert| !matches!(*insert, "" | "none"));
    let inserts = inserts.map(|insert| {
        let (value, times) = insert.split_once(':')?;
        let value = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()? as i64;
        Some((errno_name(i32::try_from(-value).ok()), times.parse().ok()?))
    });
    Some(Storm {
        seconds: number("hundredths")? as f64 / 100.0,
        failed: number("failed")?,
        helpers: number("helpers")?,
        modprobes: number("modprobes")?,
        inserts: inserts.collect::<Option<_>>()?,
        cpu_seconds: number("jiffies")? as f64 / 100.0,
        memory: Vec::new(),
    })
}

fn point(sample: &str) -> Option<(f64, f64)> {
    let (at, kb) = sample.split_once(':')?;
    Some((at.parse::<f64>().ok()? / 100.0, (kb.parse::<f64>().ok()? / 10.24).round() / 100.0))
}

impl Storm {
    fn peak(&self) -> f64 {
        self.memory.iter().map(|(_, mb)| *mb).fold(0.0, f64::max)
    }
}

fn figure(storms: &[Storm], read: impl Fn(&Storm) -> f64) -> Option<Figure> {
    Figure::of(&storms.iter().map(read).collect::<Vec<_>>())
}

fn median(storms: &[Storm], read: impl Fn(&Storm) -> f64) -> f64 {
    figure(storms, read).map_or(0.0, |figure| figure.median)
}

/// The table, and what was missed of what it was to show.
pub fn render(result: &LabResult) -> Result<(String, Vec<String>), String> {
    let log = result.log.as_deref().unwrap_or_default();
    let storms = storms(log)?;
    let head = ["", "", "failed", "seconds", "helpers", "modprobes", "inserts for a storm", "MB", "CPU s"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for (case, title) in CASES {
        for who in ["stock", "addonce", "least"] {
            let Some(of) = storms.get(&(case, who)) else { continue };
            let each = of.len() as f64;
            let sum = |read: fn(&Storm) -> i64| of.iter().map(read).sum::<i64>();
            let ranged =
                |read: fn(&Storm) -> f64, decimals| crate::figure::ranged(figure(of, read), decimals);
            rows.push(vec![
                title.into(),
                who.into(),
                format!("{} of {}", sum(|storm| storm.failed), of.len()),
                ranged(|storm| storm.seconds, 1),
                ranged(|storm| storm.helpers as f64, 0),
                format!("{:.1}", sum(|storm| storm.modprobes) as f64 / each),
                inserts(of),
                ranged(Storm::peak, 0),
                ranged(|storm| storm.cpu_seconds, 2),
            ]);
        }
    }
    Ok((table::align(rows, &[0, 1, 6]) + &cpu_goals(&storms), missed(&storms)))
}

/// How much of stock's CPU time two cases were to take, take, and take at the least, whatever the helper. Told and not judged: it
/// depends on what emulates the guest.
fn cpu_goals(storms: &Storms<'_>) -> String {
    let goal = |(case, most): (&str, f64)| {
        let cpu = |who| Some(median(storms.get(&(case, who))?, |storm| storm.cpu_seconds));
        let ratio = cpu("addonce")? / cpu("stock")?;
        let verdict = if ratio <= most { "reached" } else { "missed" };
        let least = cpu("least")? / cpu("stock")?;
        Some(format!(
            "CPU time of {case}: {ratio:.3} of stock's, at most {most:.2} wanted: {verdict}; any helper takes {least:.3}\n"
        ))
    };
    let goals = [("0008", 0.20), ("0008-alone", 0.20), ("0009", 0.12), ("0009-alone", 0.12)];
    goals.into_iter().filter_map(goal).collect()
}

/// How often each answer came, for one storm.
fn inserts(storms: &[Storm]) -> String {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (errno, times) in storms.iter().flat_map(|storm| &storm.inserts) {
        *sums.entry(errno).or_default() += times;
    }
    let each = |(errno, sum): (&str, i64)| format!("{errno}: {:.1}", sum as f64 / storms.len() as f64);
    let words: Vec<String> = sums.into_iter().map(each).collect();
    if words.is_empty() { "–".into() } else { words.join(", ") }
}

fn missed(storms: &Storms<'_>) -> Vec<String> {
    let none = Vec::new();
    let of = |case, who| storms.get(&(case, who)).unwrap_or(&none);
    let mut missed = Vec::new();
    let mut goal = |holds: bool, what: String| missed.extend((!holds).then_some(what));
    let seconds = |case, who| median(of(case, who), |storm| storm.seconds);
    let turns = of("0008", "addonce").len();
    for (case, _) in CASES {
        let (is_disturbed, times) =
            (DISTURBED.contains(&case), [of(case, "addonce").len(), of(case, "stock").len()]);
        let is_measured = if is_disturbed { times[0] > 0 } else { turns > 0 && times == [turns, turns] };
        goal(is_measured, format!("{case}: measured {} times, and {} times with stock", times[0], times[1]));
    }
    for case in ["0008", "0009"] {
        let ours = of(case, "addonce");
        let refused = |storm: &Storm| storm.inserts.keys().any(|errno| errno != "0");
        goal(!ours.iter().any(refused), format!("{case}: an insert call was in vain: {}", inserts(ours)));
        let peak = figure(ours, Storm::peak).map_or(0.0, |figure| figure.most);
        goal(peak <= 40.0, format!("{case}: {peak:.0} MB are more than 40"));
    }
    for (case, _) in CASES {
        let ours = of(case, "addonce");
        let failed = ours.iter().filter(|storm| storm.failed > 0).count();
        goal(failed == 0, format!("{case}: {failed} storms of {} had a request that failed", ours.len()));
        let modprobes: i64 = ours.iter().map(|storm| storm.modprobes).sum();
        goal(DISTURBED.contains(&case) || modprobes == 0, format!("{case}: modprobe ran {modprobes} times"));
    }
    goal(
        of("nope", "addonce").iter().all(|storm| storm.inserts.is_empty()),
        "nope: something was inserted".into(),
    );
    let too_often = |storm: &Storm| storm.inserts.values().sum::<i64>() as f64 > 1.0 + storm.seconds;
    goal(
        !of("enodev", "addonce").iter().any(too_often),
        "enodev: inserted more often than once a second".into(),
    );
    let stock = seconds("0008-alone", "stock");
    for (case, most) in [("stopped", stock + 1.0), ("died", stock + 1.0), ("killed", 1.25 * stock + 0.1)] {
        let ours = seconds(case, "addonce");
        goal(ours <= most, format!("{case}: {ours:.1} s are more than {most:.1}"));
    }
    missed
}

/// Memory over the time of a storm of 0009, as the example `curves` of addonce draws it.
pub fn curves(result: &LabResult) -> Result<Picture, String> {
    let mut storms = storms(result.log.as_deref().unwrap_or_default())?;
    let mut curves = Vec::new();
    for (who, name) in [("stock", "/sbin/modprobe"), ("addonce", "addonce-modprobe")] {
        let mut turns = storms.remove(&("0009", who)).ok_or(format!("0009 was not measured with {who}"))?;
        turns.sort_by(|one, other| one.peak().total_cmp(&other.peak()));
        let bold = turns.remove((turns.len() - 1) / 2);
        curves.extend(turns.into_iter().map(|storm| Curve { name, says: Vec::new(), points: storm.memory }));
        let says =
            vec![format!("over after {:.1} s", bold.seconds), format!("{:.0} MB at the most", bold.peak())];
        curves.push(Curve { name, says, points: bold.memory });
    }
    curves.sort_by_key(|curve| !curve.says.is_empty());
    Ok(Picture {
        title: "Memory taken by 62 concurrent requests for a file system".into(),
        facts: format!(
            "the kernel's kmod.sh, case 0009: get_fs_type(\"xfs\") · MemAvailable below its value at the start · Linux {}, kmod {} · bold: \
             the turn of median memory",
            result.kernel, result.kmod
        ),
        panels: vec![Panel {
            x: Axis { head: "since the storm began", unit: "s" },
            y: Axis { head: "memory taken", unit: "MB" },
            curves,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(case: &str, who: &str, hundredths: u32, rest: &str) -> String {
        format!("storm {case} {who} hundredths={hundredths} failed=0 helpers=58 {rest}")
    }

    fn result(ours: &str) -> LabResult {
        let mut log = vec!["noise".into()];
        let stock = "modprobes=58 inserts=0x0:2,0xffffffffffffffef:53, jiffies=1300";
        for case in ["0008-alone", "0009-alone", "live", "nope", "enodev"] {
            log.push(line(case, "stock", 180, stock));
            log.push(line(case, "addonce", 90, "modprobes=0 inserts=none jiffies=130"));
        }
        log.extend(DISTURBED.map(|case| line(case, "addonce", 180, stock)));
        for (case, seconds) in [("0008", 180), ("0009", 660)] {
            log.push(line(case, "stock", seconds, stock));
            log.push(format!("memory {case} stock 0:0 20:102400"));
            log.push(line(case, "addonce", 90, ours));
            log.push(format!("memory {case} addonce 0:0 20:20480"));
            log.push(line(case, "least", 80, "modprobes=1 inserts=0x0:2, jiffies=117"));
        }
        LabResult { log: Some(log), ..LabResult::default() }
    }

    #[test]
    fn storms_are_told_beside_each_other_and_judged() {
        let (text, missed) = render(&result("modprobes=0 inserts=0x0:2, jiffies=130")).unwrap();
        assert_eq!(missed, [""; 0], "{text}");
        assert!(text.contains("0: 2.0, EEXIST: 53.0"), "{text}");
        let cpu =
            "CPU time of 0009: 0.100 of stock's, at most 0.12 wanted: reached; any helper takes 0.090\n";
        assert!(text.ends_with(cpu), "{text}");
    }

    #[test]
    fn what_is_missed_is_named() {
        let (text, missed) =
            render(&result("modprobes=1 inserts=0xffffffffffffffef:1, jiffies=900")).unwrap();
        assert_eq!(missed.len(), 4, "{missed:#?}");
        assert!(text.ends_with("wanted: missed; any helper takes 0.090\n"), "{text}");
        let mut less = result("modprobes=0 inserts=0x0:2, jiffies=130");
        for case in CASES.map(|(case, _)| case) {
            less.log.as_mut().unwrap().retain(|line| !line.starts_with(&format!("storm {case} stock")));
        }
        less.log
            .as_mut()
            .unwrap()
            .retain(|line| !line.starts_with("storm killed") && !line.starts_with("memory"));
        let missed = render(&less).unwrap().1;
        assert!(missed.contains(&"killed: measured 0 times, and 0 times with stock".into()), "{missed:#?}");
        assert!(missed.contains(&"live: measured 1 times, and 0 times with stock".into()), "{missed:#?}");
        assert!(render(&LabResult::default()).is_err());
        assert!(storms(&["storm 0008 stock failed=0".to_string()]).is_err());
    }

    #[test]
    fn the_curves_are_those_of_0009() {
        let picture = curves(&result("modprobes=0 inserts=none jiffies=130")).unwrap();
        let tops: Vec<_> =
            picture.panels[0].curves.iter().map(|curve| (curve.name, curve.points[1])).collect();
        assert_eq!(tops, [("/sbin/modprobe", (0.2, 100.0)), ("addonce-modprobe", (0.2, 20.0))]);
    }
}
