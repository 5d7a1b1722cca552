//! Who is addressed, each once.

use serde_json::Value;
use std::collections::HashSet;

/// Gathers addressees.
#[derive(Default)]
pub(super) struct Recipients {
    found: HashSet<String>,
    /// One of them stands for nobody knows how many: a mailing list, `@channel`.
    pub(super) many: bool,
    /// Those that are e-mail addresses.
    pub(super) mailboxes: u64,
}

impl Recipients {
    /// Those in either, each once.
    pub(super) fn together(&self, other: &Self) -> u64 {
        let more = other.found.iter().filter(|address| !self.found.contains(*address)).count();
        u64::try_from(self.found.len() + more).unwrap_or(u64::MAX)
    }

    /// Those that are in neither `one` nor `other`.
    pub(super) fn others(&self, one: &Self, other: &Self) -> u64 {
        let known = |address: &&String| one.found.contains(*address) || other.found.contains(*address);
        u64::try_from(self.found.iter().filter(|address| !known(address)).count()).unwrap_or(u64::MAX)
    }

    /// The addresses of e-mail in a text that may hold anything.
    pub(super) fn mailboxes_in(&mut self, text: &str) {
        let separates = |c: char| c.is_whitespace() || "<>()[]{}\"',;|/\\=&?".contains(c) || is_comma(c);
        for part in text.split(separates) {
            let part = part.trim_end_matches(['.', ':', '!']).to_lowercase();
            let part = part.strip_prefix("mailto:").unwrap_or(&part);
            if is_mailbox(part) {
                self.insert(part);
            }
        }
    }

    /// The addresses of e-mail somewhere within a value.
    fn mailboxes(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.mailboxes_in(text),
            Value::Array(items) if depth < 64 => {
                items.iter().for_each(|item| self.mailboxes(item, depth + 1));
            }
            Value::Object(entries) if depth < 64 => entries.iter().for_each(|(key, value)| {
                self.mailboxes_in(key);
                self.mailboxes(value, depth + 1);
            }),
            _ => {}
        }
    }

    /// The value of an argument that addresses somebody: a string, a list, an object, or lists of those.
    pub(super) fn argument(&mut self, value: &Value) {
        self.value(value, 0);
    }

    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) if super::details::is_opaque(text) => self.many = true,
            Value::String(text) => self.text(text),
            Value::Number(number) => self.one(&number.to_string()),
            Value::Array(items) if depth < 8 => items.iter().for_each(|item| self.value(item, depth + 1)),
            Value::Object(entries) if depth < 8 => {
                let before = (self.found.len(), self.many);
                let mut named = false;
                for (key, value) in entries {
                    if key.contains('@') {
                        // `{"a@b": "Ann", …}`: the keys are the addresses.
                        named = true;
                        self.one(key);
                    } else if holds_address(key) {
                        named = true;
                        self.value(value, depth + 1);
                    } else {
                        self.mailboxes(value, depth + 1);
                    }
                }
                // An addressee whose address is kept somewhere else: still one.
                if !named && (self.found.len(), self.many) == before && !entries.is_empty() {
                    let mut bytes = Vec::new();
                    crate::json::write_canonical(value, &mut bytes);
                    self.found.insert(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
            Value::Array(_) | Value::Object(_) => self.many = true,
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A list as RFC 5322 writes it: commas (and, as people do, semicolons and line ends) separate, but not
    /// within quotes, angle brackets or comments.
    fn text(&mut self, text: &str) {
        let (mut quoted, mut angle, mut comment, mut escaped) = (false, false, 0_usize, false);
        let mut entry = String::new();
        for c in text.chars() {
            let separates = (matches!(c, ';' | '\n') || is_comma(c)) && !quoted && !angle && comment == 0;
            if separates && !escaped {
                self.one(&entry);
                entry.clear();
                continue;
            }
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' if comment == 0 => quoted = !quoted,
                '<' if !quoted && comment == 0 => angle = true,
                '>' if !quoted => angle = false,
                '(' if !quoted => comment += 1,
                ')' if !quoted => comment = comment.saturating_sub(1),
                _ => {}
            }
            entry.push(c);
        }
        // A quote or bracket that is never closed has swallowed separators: nobody knows how many.
        if (quoted || angle || comment > 0) && entry.contains([',', ';']) {
            self.many = true;
        }
        self.one(&entry);
    }

    fn one(&mut self, entry: &str) {
        let entry = entry.trim();
        if entry.is_empty() {
            return;
        }
        // `Name <a@b>`: what is in the last brackets. Slack's `<!channel>` has nothing before.
        let address =
            match entry.rsplit_once('<').and_then(|(before, tail)| Some((before, tail.split_once('>')?.0))) {
                Some((_, inner)) if !inner.trim().is_empty() => inner.trim(),
                _ => entry
                    .rsplit_once(':')
                    .filter(|(_, tail)| tail.contains('@'))
                    .map_or(entry, |(_, tail)| tail.trim()),
            };
        let lower = address.to_lowercase().replace(['＠', '﹫'], "@");
        let address = lower.strip_prefix("mailto:").unwrap_or(&lower);
        if address.is_empty() {
            return;
        }
        if is_many(address) || holds_many(address) {
            self.many = true;
        }
        // Several addresses, whatever separates them: no mailer's idea of a list may make them one.
        if address.matches('@').count() > 1 {
            let separates = |c: char| c.is_whitespace() || "<>()[]\"',;:|/\\、，；".contains(c);
            address.split(separates).filter(|part| part.contains('@')).for_each(|part| self.insert(part));
            return;
        }
        self.insert(address);
    }

    fn insert(&mut self, address: &str) {
        let mailbox = is_mailbox(address);
        if self.found.insert(address.to_owned()) && mailbox {
            self.mailboxes += 1;
        }
    }
}

fn is_mailbox(address: &str) -> bool {
    address.split_once('@').is_some_and(|(local, host)| !local.is_empty() && host.contains('.'))
}

/// A comma, in any script.
fn is_comma(c: char) -> bool {
    matches!(c, ',' | '،' | '、' | '，' | '；')
}

/// Whether what should be one addressee stands for several: a template that somebody else fills in, two numbers or
/// channels side by side, a `mailto:` with more fields.
fn holds_many(address: &str) -> bool {
    let digits = address.bytes().filter(u8::is_ascii_digit).count();
    let is_number = address.bytes().all(|b| b.is_ascii_digit() || b" +-()./|".contains(&b));
    ["{{", "${", "<%", "%("].iter().any(|mark| address.contains(mark))
        || (is_number && (digits > 20 || address.matches('+').count() > 1))
        || address.matches('#').count() > 1
        || (address.contains('?') && address.contains('='))
}

/// A text of a message that calls everybody in a channel.
pub(super) fn calls_everybody(text: &str) -> bool {
    ["<!channel>", "<!here>", "<!everyone>", "<!subteam", "@channel", "@everyone", "@here"].iter().any(
        |call| {
            text.match_indices(call).any(|(at, _)| {
                // `me@here.example` is an address.
                let before = text.get(..at).and_then(|head| head.chars().next_back());
                let after = text.get(at + call.len()..).and_then(|tail| tail.chars().next());
                !before.is_some_and(char::is_alphanumeric)
                    && (call.starts_with('<') || !after.is_some_and(|c| c.is_alphanumeric() || c == '.'))
            })
        },
    )
}

fn holds_address(key: &str) -> bool {
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(
        key.as_str(),
        "email"
            | "emails"
            | "address"
            | "emailaddress"
            | "mail"
            | "phone"
            | "phonenumber"
            | "number"
            | "mobile"
            | "id"
            | "user"
            | "userid"
            | "username"
            | "value"
            | "endpoint"
            | "recipient"
            | "to"
            | "cc"
            | "bcc"
            | "channel"
            | "channelid"
            | "chatid"
            | "handle"
            | "contact"
            | "contactid"
            | "members"
            | "recipients"
            | "token"
    )
}

/// Whether an address stands for more people than one can count: a list, a group, everybody.
fn is_many(address: &str) -> bool {
    if address.starts_with('!')
        || matches!(
            address,
            "*" | "@channel" | "@here" | "@everyone" | "@all" | "all" | "everyone" | "everybody"
        )
    {
        return true;
    }
    let local = match address.split_once('@') {
        Some(("", handle)) => handle,
        Some(("*", _)) => return true,
        Some((local, _)) => local,
        None => {
            return address.starts_with("list:")
                || address.starts_with("segment:")
                || address.contains(":topic/")
                || address.starts_with("/topics/")
                || address.starts_with("arn:aws:sns:");
        }
    };
    local.split(['-', '_', '.', '+']).any(|part| {
        matches!(
            part,
            "all"
                | "everyone"
                | "everybody"
                | "staff"
                | "team"
                | "list"
                | "lists"
                | "announce"
                | "announcements"
                | "newsletter"
                | "subscribers"
                | "employees"
                | "company"
                | "members"
                | "users"
                | "customers"
                | "group"
                | "broadcast"
                | "mailinglist"
                | "undisclosed"
                | "allhands"
                | "allstaff"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_to_everybody_is_no_address() {
        assert!(calls_everybody("hi @channel!"));
        assert!(calls_everybody("<!here> look"));
        assert!(!calls_everybody("write to me@here.example"));
        assert!(!calls_everybody("@hereford"));
    }
}
