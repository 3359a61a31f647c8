// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest wrote to its second serial port, taken apart.
//!
//! Owns the format of `guest/measure.sh`: lines that begin with `@@` are facts, marks, section borders and the last
//! word; the lines between `@@section NAME` and `@@end` are that section. It promises that a result which is
//! incomplete, for whatever reason, is an error and never half a figure.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Raw {
    facts: BTreeMap<String, String>,
    sections: BTreeMap<String, String>,
    /// Seconds since the storm began, with what happened then, in order.
    pub marks: Vec<(String, f64)>,
}

impl Raw {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut raw = Self::default();
        let mut section: Option<(&str, String)> = None;
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if let Some((name, mut body)) = section.take() {
                if line == "@@end" {
                    raw.sections.insert(name.into(), body);
                } else {
                    body.push_str(line);
                    body.push('\n');
                    section = Some((name, body));
                }
                continue;
            }
            let Some(word) = line.strip_prefix("@@") else { continue };
            let (word, rest) = word.split_once(' ').unwrap_or((word, ""));
            match word {
                "section" => section = Some((rest, String::new())),
                "fact" => {
                    let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                    raw.facts.insert(name.into(), value.trim().into());
                }
                "mark" => {
                    let (time, name) = rest.split_once(' ').unwrap_or((rest, ""));
                    let time: f64 =
                        time.parse().map_err(|_| format!("the guest wrote a mark without a time: {line}"))?;
                    raw.marks.push((name.into(), time / 100.0));
                }
                "fail" => return Err(format!("the guest gave up: {rest}{}", raw.last_words())),
                "done" => return Ok(raw),
                _ => {}
            }
        }
        Err("the guest's result ends before its last word: the guest died during the run".into())
    }

    pub fn fact(&self, name: &str) -> Result<&str, String> {
        self.facts.get(name).map(String::as_str).ok_or(format!("the guest's result lacks the fact '{name}'"))
    }

    pub fn number(&self, name: &str) -> Result<i64, String> {
        let value = self.fact(name)?;
        value.parse().map_err(|_| format!("the guest's fact '{name}' is '{value}', not a number"))
    }

    pub fn section(&self, name: &str) -> Result<&str, String> {
        self.sections
            .get(name)
            .map(String::as_str)
            .ok_or(format!("the guest's result lacks the section '{name}'"))
    }

    /// The section's lines as they are, if the guest wrote it.
    pub fn lines(&self, name: &str) -> Option<Vec<String>> {
        Some(self.sections.get(name)?.lines().map(String::from).collect())
    }

    fn last_words(&self) -> String {
        let log = self.lines("log").unwrap_or_default();
        log.last().map(|line| format!(" (its log ends: {line})")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_marks_and_sections_are_told_apart() {
        let raw = Raw::parse(
            "@@init\n@@fact kernel 6.1\r\n@@mark 150 all settled\n@@section live\nusbcore\n@@end\n@@done\n",
        );
        let raw = raw.unwrap();
        assert_eq!(raw.fact("kernel"), Ok("6.1"));
        assert_eq!(raw.marks, [("all settled".to_string(), 1.5)]);
        assert_eq!(raw.section("live"), Ok("usbcore\n"));
    }

    #[test]
    fn a_result_without_its_last_word_is_an_error() {
        assert!(Raw::parse("@@init\n@@section trace\n x\n").unwrap_err().contains("died"));
        assert!(Raw::parse("").is_err());
    }

    #[test]
    fn a_failure_in_the_guest_is_reported_with_the_end_of_its_log() {
        let error = Raw::parse("@@init\n@@section log\na\nb\n@@end\n@@fail 'addonce settle' exited with 4\n")
            .unwrap_err();
        assert_eq!(error, "the guest gave up: 'addonce settle' exited with 4 (its log ends: b)");
    }

    #[test]
    fn a_fact_that_is_not_a_number_is_named() {
        let raw = Raw::parse("@@fact cpu_jiffies x\n@@done\n").unwrap();
        assert!(raw.number("cpu_jiffies").unwrap_err().contains("cpu_jiffies"));
        assert!(raw.number("mem_drop_kb").unwrap_err().contains("mem_drop_kb"));
    }
}
