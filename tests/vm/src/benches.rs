// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `cargo bench` and the flood measured, as tables.
//!
//! Owns the files of a directory that those write: `NAME.jsonl`, a figure a line. It promises that a file that is missing or lacks
//! a figure is an error that says what makes it, and that a goal is told as missed where it is.

use crate::figure::NOTHING;
use crate::{table, tools};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The figures of one file.
struct Bench {
    path: PathBuf,
    lines: Vec<Value>,
}

/// The names of the places in the template.
pub const PLACES: [&str; 6] = ["duplicate", "once", "once.modules", "memory", "clients", "exec"];

/// What stands in those places.
pub fn tables(dir: &Path) -> Result<BTreeMap<String, String>, String> {
    let [duplicate, once, memory, clients, exec, flood] =
        ["duplicate", "once", "memory", "clients", "exec", "flood"].map(|name| Bench::read(dir, name));
    let (duplicate, once, memory) = (duplicate?, once?, memory?);
    let texts = [
        duplicates(&duplicate)?,
        requests(&once)?,
        modules(&once)?,
        memory_table(&memory, &flood?)?,
        clients_table(&clients?)?,
        exec_table(&exec?)?,
    ];
    Ok(PLACES.map(String::from).into_iter().zip(texts.map(|text| text.trim_end().to_string())).collect())
}

impl Bench {
    fn read(dir: &Path, name: &str) -> Result<Self, String> {
        let path = dir.join(format!("{name}.jsonl"));
        let text = tools::read(&path).map_err(|e| format!("{e}; `make bench` makes it"))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, String> {
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        lines.map_err(|e| format!("{}: {e}", path.display())).map(|lines| Self { path, lines })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.lines.iter().map(|line| Row { bench: self, line })
    }

    fn first(&self) -> Result<Row<'_>, String> {
        self.rows().next().ok_or(format!("{} holds no figure", self.path.display()))
    }
}

struct Row<'a> {
    bench: &'a Bench,
    line: &'a Value,
}

impl<'a> Row<'a> {
    fn number(&self, name: &str) -> Result<f64, String> {
        self.line[name].as_f64().ok_or_else(|| self.lacks(name))
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.line[name].as_str().ok_or_else(|| self.lacks(name))
    }

    fn lacks(&self, name: &str) -> String {
        format!("{} has a line without '{name}': {}", self.bench.path.display(), self.line)
    }
}

pub fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A kind of request, with a figure for each size of a machine.
type Kind<'a> = (&'a str, Vec<(u64, f64)>);

/// The figures of a file by kind, in its order.
fn kinds<'a>(
    bench: &'a Bench,
    size: &str,
    figure: impl Fn(&Row<'a>) -> Result<f64, String>,
) -> Result<Vec<Kind<'a>>, String> {
    let mut kinds: Vec<Kind<'a>> = Vec::new();
    for row in bench.rows() {
        let (what, at) = (row.text("what")?, (row.number(size)? as u64, figure(&row)?));
        match kinds.iter_mut().find(|(kind, _)| *kind == what) {
            Some((_, figures)) => figures.push(at),
            None => kinds.push((what, vec![at])),
        }
    }
    Ok(kinds)
}

fn growth(figures: &[(u64, f64)]) -> f64 {
    figures.last().zip(figures.first()).map_or(f64::NAN, |((_, last), (_, first))| last / first)
}

/// Rows by what is asked for, columns by the number of CPUs; in microseconds. What has a goal of its own is judged by that.
fn duplicates(bench: &Bench) -> Result<String, String> {
    let ours = kinds(bench, "cpus", |row| row.number("addonce_ns"))?;
    let bare = kinds(bench, "cpus", |row| row.number("bare_ns"))?;
    let columns = ours.first().map(|(_, times)| times.clone()).unwrap_or_default();
    let mut head = words(&["µs each"]);
    head.extend(columns.iter().map(|(cpus, _)| format!("{cpus} CPUs")));
    head.extend(words(&["a bare receive", "goal", "growth", "goal"]));
    let mut rows = vec![head];
    for ((what, ours), (_, bare)) in ours.into_iter().zip(bare) {
        let goal = |name: &str| bench.rows().find(|row| row.line["what"] == what)?.number(name).ok();
        let told = |goal: Option<String>, reached| {
            goal.map_or(NOTHING.into(), |goal| format!("{goal}: {}", verdict(reached)))
        };
        let (most, around) = (goal("most_ns"), goal("most_growth"));
        let (slowest, growth) = (ours.iter().map(|(_, ns)| *ns).fold(0.0, f64::max), growth(&ours));
        let mut row = words(&[what]);
        row.extend(ours.iter().chain(&bare[..1]).map(|(_, ns)| format!("{:.2}", ns / 1000.0)));
        row.push(told(
            most.map(|most| format!("{}", most / 1000.0)),
            most.is_some_and(|most| slowest <= most),
        ));
        row.push(format!("{growth:.2}"));
        let is_flat = around.is_some_and(|around| (growth - 1.0).abs() <= around);
        row.push(told(around.map(|around| format!("1 +- {around}")), is_flat));
        rows.push(row);
    }
    Ok(table::align(rows, &[0]))
}

/// Rows by what is asked for, columns by the number of devices; in microseconds.
fn requests(bench: &Bench) -> Result<String, String> {
    let kinds = kinds(bench, "devices", |row| Ok(row.number("ns")? / 1000.0))?;
    let columns = kinds.first().map(|(_, times)| times.clone()).unwrap_or_default();
    let mut head = words(&["µs each"]);
    head.extend(columns.iter().map(|(devices, _)| format!("{devices} devices")));
    head.push("growth".into());
    let mut rows = vec![head];
    for (what, times) in kinds {
        let mut row = words(&[what]);
        row.extend(times.iter().map(|(_, time)| format!("{time:.2}")));
        row.push(format!("{:.2}", growth(&times)));
        rows.push(row);
    }
    Ok(table::align(rows, &[0]))
}

/// How many modules the module tree has: the fewest of what was asked for on the largest machine.
fn modules(bench: &Bench) -> Result<String, String> {
    let most = bench.rows().map(|row| row.number("devices")).collect::<Result<Vec<_>, _>>()?;
    let most = most.into_iter().fold(0.0, f64::max);
    let asked: Result<Vec<f64>, _> =
        bench.rows().filter(|row| row.line["devices"] == most).map(|row| row.number("requests")).collect();
    Ok(format!("{:.0}", asked?.into_iter().fold(most, f64::min)))
}

fn memory_table(storm: &Bench, flood: &Bench) -> Result<String, String> {
    let (storm, flood) = (storm.first()?, flood.first()?);
    let (idle, peak) = (storm.number("idle_kib")?, storm.number("peak_kib")?);
    let above = flood.number("peak_kib")? - flood.number("idle_kib")?;
    let row = |what: String, kib: f64, goal: Option<f64>| {
        let told = goal.map(|goal| format!("{goal:.0}: {}", verdict(kib <= goal)));
        vec![what, format!("{kib:.0}"), told.unwrap_or(NOTHING.into())]
    };
    let rows = vec![
        words(&["the daemon, resident", "KiB", "goal"]),
        row("idle".into(), idle, None),
        row(
            format!(
                "at the peak of a storm of {} CPUs ({} requests, 5 failed modules)",
                storm.number("cpus")?,
                storm.number("requests")?
            ),
            peak,
            Some(8192.0),
        ),
        row(
            format!("{} hostile modaliases, above idle", flood.number("modaliases")?),
            above,
            Some(16.0 * 1024.0),
        ),
    ];
    Ok(table::align(rows, &[0]))
}

const MOST_WITH_CLIENTS: f64 = 1.05;

fn clients_table(bench: &Bench) -> Result<String, String> {
    let mut rows = vec![words(&["the storm", "alone", "with 1000 clients", "ratio", "goal: 1.05"])];
    for row in bench.rows() {
        let (alone, with) = (row.number("alone_s")?, row.number("with_s")?);
        let ratio = with / alone;
        let mut cells = words(&[row.text("what")?]);
        cells.extend([format!("{alone:.3} s"), format!("{with:.3} s"), format!("{ratio:.3}")]);
        cells.push(verdict(ratio <= MOST_WITH_CLIENTS).into());
        rows.push(cells);
    }
    Ok(table::align(rows, &[0]))
}

const MOST_OF_MODPROBE: f64 = 0.35;

fn exec_table(bench: &Bench) -> Result<String, String> {
    let mut rows = vec![words(&["", "ms", "ratio to `modprobe -b`", "goal"])];
    for row in bench.rows() {
        let (what, ms, ratio) = (row.text("what")?, row.number("ms")?, row.number("ratio")?);
        let goal = match what {
            "addonce-load" => format!("{MOST_OF_MODPROBE}: {}", verdict(ratio <= MOST_OF_MODPROBE)),
            _ => NOTHING.into(),
        };
        rows.push(vec![format!("`{what}`"), format!("{ms:.2}"), format!("{ratio:.2}"), goal]);
    }
    Ok(table::align(rows, &[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(text: &str) -> Bench {
        Bench::parse("x.jsonl".into(), text).unwrap()
    }

    #[test]
    fn a_kind_of_duplicate_is_a_row_and_is_judged_where_it_has_a_goal() {
        let line = |what: &str, cpus: u32, ns: u32, goal: &str| {
            format!("{{\"what\":\"{what}\",\"cpus\":{cpus},\"bare_ns\":400,\"addonce_ns\":{ns}{goal}}}\n")
        };
        let goal = ",\"most_ns\":2000,\"most_growth\":0.15";
        let text = [
            line("flat", 64, 1900, goal),
            line("flat", 8192, 2000, goal),
            line("grows", 64, 1000, goal),
            line("grows", 8192, 1200, goal),
            line("shrinks", 64, 2100, goal),
            line("shrinks", 8192, 1700, goal),
            line("has no goal", 64, 4000, ""),
            line("has no goal", 8192, 8000, ""),
        ];
        let table = duplicates(&bench(&text.concat())).unwrap();
        let row = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap();
            line.split('|').map(|cell| cell.trim().to_string()).skip(2).take(6).collect::<Vec<_>>()
        };
        assert_eq!(row("flat"), ["1.90", "2.00", "0.40", "2: reached", "1.05", "1 +- 0.15: reached"]);
        assert_eq!(row("grows"), ["1.00", "1.20", "0.40", "2: reached", "1.20", "1 +- 0.15: **missed**"]);
        assert_eq!(
            row("shrinks"),
            ["2.10", "1.70", "0.40", "2: **missed**", "0.81", "1 +- 0.15: **missed**"]
        );
        assert_eq!(row("has no goal"), ["4.00", "8.00", "0.40", NOTHING, "2.00", NOTHING]);
    }

    #[test]
    fn a_kind_of_request_is_a_row_and_a_number_of_devices_a_column() {
        let line = |what: &str, devices: u32, requests: u32, ns: u32| {
            format!("{{\"what\":\"{what}\",\"devices\":{devices},\"requests\":{requests},\"ns\":{ns}}}\n")
        };
        let text = [
            line("a", 64, 64, 1500),
            line("b", 64, 64, 60),
            line("a", 9000, 4000, 3000),
            line("b", 9000, 9000, 66),
        ];
        let once = bench(&text.concat());
        let table = requests(&once).unwrap();
        let row = table.lines().find(|line| line.starts_with("| a")).unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2..5], ["1.50", "3.00", "2.00"]);
        assert_eq!(modules(&once).unwrap(), "4000");
    }

    #[test]
    fn a_figure_that_lacks_is_named_with_its_file() {
        let error = clients_table(&bench("{\"what\": \"a storm\", \"alone_s\": 1.0}")).unwrap_err();
        assert!(error.contains("x.jsonl") && error.contains("'with_s'"), "{error}");
        assert!(Bench::read(Path::new("/nowhere"), "flood").err().unwrap().contains("make bench"));
    }

    #[test]
    fn what_udev_runs_is_judged_beside_modprobe() {
        let row = |what: &str, ratio: f64| format!("{{\"what\":\"{what}\",\"ms\":1.0,\"ratio\":{ratio}}}\n");
        let told =
            |ratio| exec_table(&bench(&(row("modprobe -b", 1.0) + &row("addonce-load", ratio)))).unwrap();
        assert!(told(0.35).contains("0.35: reached"), "{}", told(0.35));
        assert!(told(0.36).contains("0.35: **missed**"), "{}", told(0.36));
    }

    #[test]
    fn memory_is_told_above_idle_where_that_is_the_goal() {
        let storm = bench(r#"{"cpus": 8192, "requests": 16384, "idle_kib": 6000, "peak_kib": 8192}"#);
        let flood = bench(r#"{"modaliases": 1000000, "idle_kib": 6000, "peak_kib": 28000}"#);
        let table = memory_table(&storm, &flood).unwrap();
        assert!(table.contains("8192: reached"), "{table}");
        assert!(table.contains(" 22000 ") && table.contains("16384: **missed**"), "{table}");
    }
}
