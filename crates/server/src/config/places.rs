//! On which lines the keys of an entry stand, so that a mistake in it names its own line.

use toml::{Spanned, de::DeValue};

/// The lines of an entry and of the keys in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Where it begins, from 1.
    first: Option<usize>,
    /// Each key in it by its path, such as `condition.any_of[1].action`.
    keys: Vec<(String, usize)>,
}

impl Places {
    /// Of an entry of a TOML file. `line` says on which line an offset is.
    pub(super) fn of_toml(entry: &Spanned<DeValue<'_>>, line: impl Fn(usize) -> usize) -> Self {
        let mut places = Self { first: Some(line(entry.span().start)), keys: Vec::new() };
        places.take_in("", entry.get_ref(), &line);
        places
    }

    fn take_in(&mut self, path: &str, value: &DeValue<'_>, line: &impl Fn(usize) -> usize) {
        match value {
            DeValue::Table(table) => {
                for (key, value) in table {
                    let path = member(path, key.get_ref());
                    self.keys.push((path.clone(), line(key.span().start)));
                    self.take_in(&path, value.get_ref(), line);
                }
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.take_in(&format!("{path}[{index}]"), item.get_ref(), line);
                }
            }
            _ => {}
        }
    }

    /// Of each entry of a list in JSON, which is the whole of `text` or its member `list`. `text` is known to be JSON.
    pub(super) fn of_json(text: &str, list: &str) -> Vec<Self> {
        let mut scan = Scan { text: text.as_bytes(), at: 0, line: 1 };
        let mut found = Vec::new();
        match scan.next() {
            Some(b'[') => scan.items(|scan, _| found.push(scan.entry())),
            Some(b'{') => scan.members(|scan, key, _| {
                if key == list && scan.peek() == Some(b'[') {
                    scan.next();
                    scan.items(|scan, _| found.push(scan.entry()));
                } else {
                    scan.value("", &mut Vec::new());
                }
            }),
            _ => {}
        }
        found
    }

    /// The line of the key at `path`, or of the nearest one that it is in.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some((_, line)) = self.keys.iter().find(|(key, _)| key == path) {
                return Some(*line);
            }
            match path.rfind(['.', '[']).and_then(|end| path.get(..end)) {
                Some(outer) => path = outer,
                None => return self.first,
            }
        }
    }
}

fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Reads JSON for its lines alone.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Scan<'_> {
    /// What comes after the white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at).filter(|byte| byte.is_ascii_whitespace()) {
            self.line += usize::from(*byte == b'\n');
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    /// The rest of a text whose first quote was read, as it is written.
    fn text(&mut self) -> String {
        let from = self.at;
        while let Some(byte) = self.text.get(self.at).filter(|byte| **byte != b'"') {
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        let text = self.text.get(from..self.at).unwrap_or_default();
        self.at += 1;
        String::from_utf8_lossy(text).into_owned()
    }

    /// The rest of an object whose brace was read.
    fn members(&mut self, mut each: impl FnMut(&mut Self, &str, usize)) {
        while self.next() == Some(b'"') {
            let line = self.line;
            let key = self.text();
            self.next();
            each(self, &key, line);
            if self.next() != Some(b',') {
                return;
            }
        }
    }

    /// The rest of a list whose bracket was read.
    fn items(&mut self, mut each: impl FnMut(&mut Self, usize)) {
        if self.peek() == Some(b']') {
            self.at += 1;
            return;
        }
        for index in 0.. {
            each(self, index);
            if self.next() != Some(b',') {
                return;
            }
        }
    }

    fn entry(&mut self) -> Places {
        self.peek();
        let mut places = Places { first: Some(self.line), keys: Vec::new() };
        self.value("", &mut places.keys);
        places
    }

    fn value(&mut self, path: &str, keys: &mut Vec<(String, usize)>) {
        match self.next() {
            Some(b'{') => self.members(|scan, key, line| {
                let path = member(path, key);
                keys.push((path.clone(), line));
                scan.value(&path, keys);
            }),
            Some(b'[') => self.items(|scan, index| scan.value(&format!("{path}[{index}]"), keys)),
            Some(b'"') => drop(self.text()),
            // A number or a word.
            _ => {
                while self.text.get(self.at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                    self.at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_json_has_its_line() {
        let text = "{\"sources\": {\"a\": [1, {}]},\n \"policies\": [\n{\"name\": \"a\\\"]}\",\n\
                    \"condition\": {\"any_of\": [{\"action\": -1.5e3},\n {\"acton\": [], \"x\": null}]}},\n[],\n{}]}";
        let places = Places::of_json(text, "policies");
        assert_eq!(places.iter().filter_map(|p| p.first).collect::<Vec<_>>(), [3, 6, 7]);
        let line = |path: &str| places[0].line(path).unwrap();
        assert_eq!((line("name"), line("condition"), line("condition.any_of[0].action")), (3, 4, 4));
        assert_eq!((line("condition.any_of[1].acton"), line("condition.any_of[1].x")), (5, 5));
        assert_eq!((line("condition.any_of[1]"), line("rule"), line("")), (4, 3, 3));
        assert_eq!(Places::of_json("[ {\"a\": 1},\n{\"b\": 2} ]", "policies")[1].line("b"), Some(2));
        assert!(Places::of_json("[]", "policies").is_empty());
        // What is no JSON is refused elsewhere; here it only must come to an end.
        for end in 0..text.len() {
            Places::of_json(text.get(..end).unwrap(), "policies");
        }
    }
}
