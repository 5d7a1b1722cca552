//! Reading the plain parts of a policy: words, numbers, names, hosts, and lists of them.

use super::{
    Problem,
    matcher::{Host, Hosts, Patterns, nearest, shown},
    parse::limits,
};
use crate::name::Pattern;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Collects problems while a policy is read. What has a problem is answered with `None`.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) policy: String,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn problem(&mut self, path: &str, message: String) {
        self.problems.push(Problem { policy: self.policy.clone(), path: path.to_owned(), message });
    }

    pub(super) fn word<T: DeserializeOwned>(
        &mut self,
        value: &Value,
        path: &str,
        known: &[&str],
    ) -> Option<T> {
        if let Value::String(word) = value {
            if let (true, Ok(parsed)) = (known.contains(&word.as_str()), T::deserialize(value)) {
                return Some(parsed);
            }
            let hint = nearest(word, known).map_or_else(
                || format!("one of {} is expected", known.join(", ")),
                |k| format!("did you mean `{k}`? Known are {}", known.join(", ")),
            );
            self.problem(path, format!("unknown `{}`; {hint}", shown(word)));
        } else {
            self.problem(path, format!("one of {} is expected, not {}", known.join(", "), kind(value)));
        }
        None
    }

    pub(super) fn patterns(&mut self, value: &Value, path: &str) -> Option<Patterns> {
        let (one, before) = (value.is_string(), self.problems.len());
        let mut patterns = Vec::new();
        for (i, item) in self.list(value, path).into_iter().enumerate() {
            let at = if one { path.to_owned() } else { format!("{path}[{i}]") };
            match item.as_str().map(Pattern::new) {
                Some(Ok(pattern)) => patterns.push(pattern),
                Some(Err(e)) => self.problem(&at, e.to_string()),
                None => self.problem(&at, format!("a text is expected, not {}", kind(item))),
            }
        }
        (self.problems.len() == before).then(|| Patterns::new(patterns))
    }

    pub(super) fn hosts(&mut self, value: &Value, path: &str) -> Option<Hosts> {
        let (one, before) = (value.is_string(), self.problems.len());
        let mut hosts = Vec::new();
        for (i, item) in self.list(value, path).into_iter().enumerate() {
            let at = if one { path.to_owned() } else { format!("{path}[{i}]") };
            match item.as_str().map(Host::parse) {
                Some(Ok(host)) => hosts.push(host),
                Some(Err(message)) => self.problem(&at, message),
                None => self.problem(&at, format!("a host is expected, not {}", kind(item))),
            }
        }
        (self.problems.len() == before).then(|| Hosts::new(hosts))
    }

    pub(super) fn words<T: DeserializeOwned + Ord>(
        &mut self,
        value: &Value,
        path: &str,
        known: &[&str],
    ) -> Option<Box<[T]>> {
        let (one, before) = (value.is_string(), self.problems.len());
        let mut words: Vec<T> = Vec::new();
        for (i, item) in self.list(value, path).into_iter().enumerate() {
            let at = if one { path.to_owned() } else { format!("{path}[{i}]") };
            words.extend(self.word::<T>(item, &at, known));
        }
        words.sort_unstable();
        words.dedup();
        (self.problems.len() == before).then(|| words.into())
    }

    pub(super) fn whole(&mut self, value: &Value, path: &str) -> Option<u64> {
        let number = value.as_u64();
        if number.is_none() {
            self.problem(path, format!("a whole number of 0 or more is expected, not {}", kind(value)));
        }
        number
    }

    /// The items of a list that must not be empty; what is no list counts as a list of itself.
    pub(super) fn list<'v>(&mut self, value: &'v Value, path: &str) -> Vec<&'v Value> {
        let Value::Array(items) = value else { return vec![value] };
        if items.is_empty() {
            self.problem(path, "an empty list matches nothing; name something or remove it".into());
        } else if items.len() > limits::LIST {
            self.problem(
                path,
                format!("a list has at most {} entries, this one has {}", limits::LIST, items.len()),
            );
            return Vec::new();
        }
        items.iter().collect()
    }
}

pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let key = shown(key);
    match nearest(&key, known) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`; known are {}", known.join(", ")),
    }
}

pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(text) => format!("the text \"{}\"", shown(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// `30s`, `5m`, `1h`, `7d` in seconds.
pub(super) fn period(text: &str) -> Option<u32> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u32>().ok()?.checked_mul(factor)?;
    (1..=limits::RATE_PERIOD_SECONDS).contains(&seconds).then_some(seconds)
}
