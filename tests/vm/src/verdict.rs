// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases compared with what the kernel counted and the guest observed.
//!
//! Owns the comparison, its table and its JSON. It promises that nothing goes uncounted: an insert call of a module
//! that the case does not expect is a fault, whoever made it, and so are a case that was not performed and one that
//! nobody knows.

use crate::cases::Case;
use crate::table;
use crate::trace::{Call, Trace, by_addonce};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the scenario calls the parts of a case. Nothing is expected of addonce in the first.
const PHASES: [&str; 4] = ["before", "ask", "again", "fix"];

#[derive(Debug, Serialize)]
pub struct Report {
    pub kernel: String,
    pub udev: String,
    pub kmod: String,
    pub cpus: u32,
    /// From the first case to the end of the last, in the guest.
    pub seconds: f64,
    pub rows: Vec<Row>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Row {
    pub case: String,
    pub title: String,
    /// Insert calls by addonce, in each phase.
    pub expected: Vec<u32>,
    pub seen: Vec<u32>,
    /// Whether everything is live that should be; nothing where nothing should.
    pub live: Option<bool>,
    /// What else holds.
    pub notes: Vec<String>,
    /// What does not.
    pub faults: Vec<String>,
}

/// The calls between two marks.
struct Span<'a> {
    case: &'a str,
    phase: usize,
    calls: &'a [Call],
}

/// What the scenario wrote: the values by case and name.
struct Observed<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Vec<String>>>);

/// One case with what belongs to it.
struct Judge<'a> {
    case: &'a Case,
    spans: Vec<&'a Span<'a>>,
    observed: &'a Observed<'a>,
    row: Row,
}

pub fn compare(cases: &[Case], trace: &Trace, observed: &str) -> Result<Vec<Row>, String> {
    let spans = spans(trace)?;
    if let Some(stranger) = spans.iter().find(|span| cases.iter().all(|case| case.name != span.case)) {
        let case = stranger.case;
        return Err(format!("the scenario performed the case '{case}', which src/cases.rs does not have"));
    }
    let observed = Observed::read(observed);
    Ok(cases.iter().map(|case| Judge::new(case, &spans, &observed).judge()).collect())
}

fn spans(trace: &Trace) -> Result<Vec<Span<'_>>, String> {
    let first = trace.marks.first().ok_or("the trace has no marks")?;
    if let Some(call) = trace.calls[..first.calls].first() {
        return Err(format!("{} was inserted before the first case", call.module));
    }
    let mut spans = Vec::new();
    for pair in trace.marks.windows(2) {
        let [mark, end] = pair else { continue };
        let unknown = || format!("a mark nobody can read: {}", mark.text);
        let (case, phase) = mark.text.split_once(' ').ok_or_else(unknown)?;
        let phase = PHASES.iter().position(|known| *known == phase).ok_or_else(unknown)?;
        spans.push(Span { case, phase, calls: &trace.calls[mark.calls..end.calls] });
    }
    match trace.marks.last() {
        Some(last) if last.text == "end end" && last.calls == trace.calls.len() => Ok(spans),
        _ => Err("the trace does not end where the scenario does".into()),
    }
}

impl<'a> Observed<'a> {
    fn read(text: &'a str) -> Self {
        let mut observed = BTreeMap::<_, BTreeMap<_, Vec<String>>>::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some(case), Some(name)) = (words.next(), words.next()) {
                let value = words.collect::<Vec<_>>().join(" ");
                observed.entry(case).or_default().entry(name).or_default().push(value);
            }
        }
        Self(observed)
    }

    fn get(&self, case: &str, name: &str) -> &[String] {
        self.0.get(case).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }

    /// The modules of a list, without their `addonce_`.
    fn modules(&self, case: &str, name: &str) -> BTreeSet<&str> {
        self.get(case, name).iter().flat_map(|line| line.split(' ')).map(plain).collect()
    }
}

fn plain(module: &str) -> &str {
    module.strip_prefix("addonce_").unwrap_or(module)
}

impl<'a> Judge<'a> {
    fn new(case: &'a Case, spans: &'a [Span<'a>], observed: &'a Observed<'a>) -> Self {
        let spans = spans.iter().filter(|span| span.case == case.name).collect();
        let row = Row { case: case.name.into(), title: case.title.into(), ..Row::default() };
        Self { case, spans, observed, row }
    }

    fn judge(mut self) -> Row {
        self.attempts();
        self.strangers();
        self.order();
        self.overlap();
        self.modules();
        self.facts();
        self.row
    }

    fn calls(&self) -> impl Iterator<Item = &'a Call> + use<'a> {
        self.spans.clone().into_iter().flat_map(|span| span.calls)
    }

    fn fault(&mut self, text: String) {
        self.row.faults.push(text);
    }

    /// Phase by phase and module by module.
    fn attempts(&mut self) {
        let case = self.case;
        let phases = case.attempts.iter().map(|(_, attempts)| attempts.len()).max().unwrap_or(0);
        for (phase, name) in PHASES.iter().enumerate().skip(1).take(phases) {
            let spans: Vec<_> = self.spans.iter().filter(|span| span.phase == phase).collect();
            let calls: Vec<_> =
                spans.iter().flat_map(|span| span.calls).filter(|call| by_addonce(call)).collect();
            if spans.is_empty() {
                self.fault(format!("not performed: {name}"));
            }
            let (mut sum, mut sum_seen) = (0, 0);
            for (module, attempts) in &case.attempts {
                let expected = attempts.get(phase - 1).copied().unwrap_or(0);
                let seen = calls.iter().filter(|call| plain(&call.module) == module).count() as u32;
                (sum, sum_seen) = (sum + expected, sum_seen + seen);
                if seen != expected {
                    self.fault(format!("{name}: {module} {seen} times, not {expected}"));
                }
            }
            self.row.expected.push(sum);
            self.row.seen.push(sum_seen);
        }
    }

    /// What nobody expects.
    fn strangers(&mut self) {
        for call in self.calls().filter(|call| by_addonce(call)) {
            if self.case.attempts.iter().all(|(module, _)| module != plain(&call.module)) {
                self.fault(format!("{} was inserted by addonce", call.module));
            }
        }
        let mut by_hand: Vec<_> =
            self.calls().filter(|call| !by_addonce(call)).map(|call| plain(&call.module)).collect();
        let mut expected = self.case.by_hand.clone();
        by_hand.sort_unstable();
        expected.sort_unstable();
        if by_hand != expected {
            self.fault(format!("inserted by others: {by_hand:?}, not {expected:?}"));
        }
    }

    fn order(&mut self) {
        let seen: Vec<_> = self.calls().map(|call| plain(&call.module)).collect();
        let expected = self.case.attempts.iter().map(|(module, _)| module.as_str());
        match (self.case.ordered, expected.eq(seen.iter().copied())) {
            (false, _) => {}
            (true, true) => self.row.notes.push("in this order".into()),
            (true, false) => self.fault(format!("the order is {seen:?}")),
        }
    }

    fn overlap(&mut self) {
        if !self.case.together {
            return;
        }
        let last_begin = self.calls().map(|call| call.called).fold(f64::NAN, f64::max);
        // Not a number where nothing returned, and that is after nothing.
        let first_return = self.calls().filter_map(|call| call.returned).fold(f64::NAN, f64::min);
        if last_begin < first_return {
            self.row.notes.push("all at a time".into());
        } else {
            self.fault(format!("the last began {:.2} s after the first returned", last_begin - first_return));
        }
    }

    /// What is live, and what is still remembered.
    fn modules(&mut self) {
        let (case, observed) = (self.case, self.observed);
        let (live, failed) = (observed.modules(case.name, "live"), observed.modules(case.name, "failed"));
        let missing: Vec<_> = case.live.iter().filter(|module| !live.contains(module.as_str())).collect();
        self.row.live = (!case.live.is_empty()).then_some(missing.is_empty());
        if !missing.is_empty() {
            self.fault(format!("not live: {missing:?}"));
        }
        for module in case.idle.iter().filter(|module| live.contains(*module)) {
            self.fault(format!("{module} is live"));
        }
        for module in case.live.iter().filter(|module| failed.contains(module.as_str())) {
            self.fault(format!("{module} is still remembered as failed"));
        }
    }

    fn facts(&mut self) {
        for fact in &self.case.facts {
            match self.observed.get(self.case.name, fact.name) {
                [value] if value == fact.value => self.row.notes.push(fact.means.into()),
                other => {
                    let fault = format!("{}: {other:?}, not {:?}", fact.name, fact.value);
                    self.fault(fault);
                }
            }
        }
    }
}

pub fn render(rows: &[Row]) -> String {
    let phases = |counts: &[u32]| counts.iter().map(u32::to_string).collect::<Vec<_>>().join(" + ");
    let yes = |yes: bool| if yes { "yes" } else { "NO" }.to_string();
    let head = ["case", "attempts expected", "seen", "live", "ok", "and"].map(String::from).to_vec();
    let rows = rows.iter().map(|row| {
        vec![
            row.title.clone(),
            phases(&row.expected),
            phases(&row.seen),
            row.live.map_or("-".into(), yes),
            yes(row.faults.is_empty()),
            row.notes.join(", "),
        ]
    });
    table::align(std::iter::once(head).chain(rows).collect(), &[0, 5])
}

pub fn faults(rows: &[Row]) -> Vec<String> {
    rows.iter().flat_map(|row| row.faults.iter().map(move |fault| format!("{}: {fault}", row.case))).collect()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
