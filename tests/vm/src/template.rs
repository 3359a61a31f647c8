// SPDX-License-Identifier: MIT OR Apache-2.0
//! A text with places for figures: `{{name}}`.
//!
//! Owns the filling in. It promises that a place nobody has a figure for and a figure nobody has a place for are errors,
//! so that neither the text nor the report can lose one unseen.

use std::collections::{BTreeMap, BTreeSet};

pub fn fill(template: &str, figures: &BTreeMap<String, String>) -> Result<String, String> {
    let mut text = String::new();
    let mut used = BTreeSet::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a place in the template has no end: {{")?;
        let figure = figures
            .get(name)
            .ok_or_else(|| format!("the template has a place for '{name}', which nobody measures"))?;
        text.push_str(before);
        text.push_str(figure);
        used.insert(name);
        rest = after;
    }
    match figures.keys().find(|name| !used.contains(name.as_str())) {
        Some(name) => Err(format!("the template has no place for '{name}'")),
        None => Ok(text + rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Result<String, String> {
        fill(template, &BTreeMap::from([("goals".into(), "7 of 8".into())]))
    }

    #[test]
    fn a_place_is_filled_wherever_it_is() {
        assert_eq!(filled("{{goals}}: {{goals}}."), Ok("7 of 8: 7 of 8.".into()));
    }

    #[test]
    fn unknown_unused_and_unclosed_places_are_errors() {
        assert!(filled("{{goals}} {{gaols}}").unwrap_err().contains("'gaols'"));
        assert!(filled("no place").unwrap_err().contains("'goals'"));
        assert!(filled("{{goals}} {{goals").unwrap_err().contains("no end"));
    }
}
