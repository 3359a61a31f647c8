// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Interface: what io.addonce.varlink says, held against what was sent
//!
//! Reads as much of Varlink's interface language as ours uses: types, enumerations, arrays, optional fields, methods.

use std::collections::BTreeMap;

use serde_json::Value;

/// The types and methods of an interface.
#[derive(Debug)]
pub struct Interface {
    types: BTreeMap<String, Type>,
    /// What each method replies.
    pub replies: BTreeMap<String, Type>,
}

#[derive(Clone, Debug)]
pub enum Type {
    Bool,
    Int,
    String,
    Named(String),
    OneOf(Vec<String>),
    Array(Box<Type>),
    Maybe(Box<Type>),
    Object(Vec<(String, Type)>),
}

impl Interface {
    pub fn parse(text: &str) -> Self {
        let bare: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |all, line| all + line + " ");
        let mut words = Words { rest: &bare };
        let (mut types, mut replies) = (BTreeMap::new(), BTreeMap::new());
        assert_eq!((words.word(), words.word()), ("interface".into(), "io.addonce".into()));
        loop {
            match words.word().as_str() {
                "type" => {
                    let name = words.word();
                    types.insert(name, words.a_type());
                }
                "method" => {
                    let name = words.word();
                    words.a_type();
                    words.expect("->");
                    replies.insert(name, words.a_type());
                }
                "" => return Self { types, replies },
                other => panic!("what is `{other}`?"),
            }
        }
    }

    /// Fails unless the value is of the type, field by field, with none missing and none too many.
    pub fn check(&self, value: &Value, of: &Type, at: &str) {
        match of {
            Type::Bool => assert!(value.is_boolean(), "{at}: {value}"),
            Type::Int => assert!(value.is_i64() || value.is_u64(), "{at}: {value}"),
            Type::String => assert!(value.is_string(), "{at}: {value}"),
            Type::Named(name) => {
                let named = self.types.get(name).unwrap_or_else(|| panic!("{at}: no type {name}"));
                self.check(value, named, at);
            }
            Type::OneOf(words) => {
                let is = value.as_str().unwrap_or_default();
                assert!(words.iter().any(|word| word == is), "{at}: {value} is none of {words:?}");
            }
            Type::Array(each) => {
                let values = value.as_array().unwrap_or_else(|| panic!("{at}: {value}"));
                values.iter().for_each(|value| self.check(value, each, at));
            }
            Type::Maybe(of) if !value.is_null() => self.check(value, of, at),
            Type::Maybe(_) => {}
            Type::Object(fields) => {
                let object = value.as_object().unwrap_or_else(|| panic!("{at}: {value}"));
                for (name, of) in fields {
                    let missing = object.get(name).unwrap_or(&Value::Null);
                    self.check(missing, of, &format!("{at}.{name}"));
                }
                for name in object.keys() {
                    assert!(fields.iter().any(|(field, _)| field == name), "{at}: {name} is not described");
                }
            }
        }
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn expect(&mut self, what: &str) {
        let rest = self.rest.trim_start();
        self.rest = rest.strip_prefix(what).unwrap_or_else(|| panic!("no {what} before {rest:.40}"));
    }

    fn next_is(&mut self, what: &str) -> bool {
        self.rest = self.rest.trim_start();
        let next = self.rest.strip_prefix(what);
        self.rest = next.unwrap_or(self.rest);
        next.is_some()
    }

    fn word(&mut self) -> String {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
        self.rest = &rest[end..];
        rest[..end].into()
    }

    fn a_type(&mut self) -> Type {
        if self.next_is("?") {
            return Type::Maybe(Box::new(self.a_type()));
        }
        if self.next_is("[]") {
            return Type::Array(Box::new(self.a_type()));
        }
        if !self.next_is("(") {
            return match self.word().as_str() {
                "bool" => Type::Bool,
                "int" => Type::Int,
                "string" => Type::String,
                name => Type::Named(name.into()),
            };
        }
        let (mut fields, mut words) = (Vec::new(), Vec::new());
        while !self.next_is(")") {
            let name = self.word();
            if self.next_is(":") {
                let of = self.a_type();
                fields.push((name, of));
            } else {
                words.push(name);
            }
            self.next_is(",");
        }
        if words.is_empty() { Type::Object(fields) } else { Type::OneOf(words) }
    }
}
