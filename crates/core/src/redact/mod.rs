//! Takes secrets out of what leaves: fields by name, and what has the shape of a secret wherever it stands.
//!
//! Pure, bounded, and linear in the length of the text. What is replaced reads `[redacted]`; doing it again changes
//! nothing. It is a net under the configuration, not a proof: a secret without a shape, in a field of any name, passes.

mod shapes;

use crate::{
    decision::BlastRadius,
    name::Name,
    signal::{Notification, Signal},
};
use serde_json::{Map, Value};
use shapes::Shapes;
use std::{borrow::Cow, collections::HashSet};

/// What stands for a secret.
pub const REDACTED: &str = "[redacted]";
/// The longest text that is looked through, in bytes: the rest of a longer one is cut off, since nothing leaves that
/// was not looked at.
pub const MAX_TEXT: usize = 256 * 1024;
/// Deeper values are replaced as a whole.
const MAX_DEPTH: usize = 128;
/// The most fields that may be configured.
const MAX_FIELDS: usize = 1000;

/// Fields that hold a secret, whoever named them.
const ALWAYS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "client_secret",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "bearer_token",
    "api_key",
    "secret_key",
    "private_key",
    "access_key",
    "secret_access_key",
    "authorization",
    "proxy_authorization",
    "cookie",
    "set_cookie",
    "x_api_key",
    "credentials",
    "cvv",
    "cvc",
];

/// Takes secrets out of texts and values. Made once; cheap to use.
#[derive(Debug)]
pub struct Redactor {
    shapes: Shapes,
    /// Paths by their segments, the last first; `*` is any one.
    paths: Vec<Vec<String>>,
    /// The last segments, for a quick no. `None` where one of them is `*`.
    last: Option<HashSet<String>>,
}

impl Redactor {
    /// One that takes out `fields` besides what it always does: names (`ssn`) or paths (`customer.card.*`), which
    /// match at any depth, whatever the case and with or without `-` and `_`; lists on the way do not count. With
    /// `emails`, addresses of e-mail too.
    ///
    /// # Errors
    /// When a field is empty, or there are more than 1,000.
    pub fn new(fields: &[String], emails: bool) -> Result<Self, String> {
        if fields.len() > MAX_FIELDS {
            return Err(format!("at most {MAX_FIELDS} fields can be redacted, these are {}", fields.len()));
        }
        let mut paths = Vec::new();
        for field in ALWAYS.iter().copied().chain(fields.iter().map(String::as_str)) {
            let path: Vec<_> = field.split('.').rev().map(normal).collect();
            if path.iter().any(String::is_empty) {
                return Err(format!(
                    "`{}` is no field: write a name, or names with dots between them",
                    field.escape_debug()
                ));
            }
            paths.push(path);
        }
        let last: HashSet<_> = paths.iter().filter_map(|path| path.first()).cloned().collect();
        let last = (!last.contains("*")).then_some(last);
        Ok(Self { shapes: Shapes::new(emails)?, paths, last })
    }

    /// `text` without what has the shape of a secret.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.len() <= MAX_TEXT {
            return self.shapes.redact(text);
        }
        let start = text.floor_char_boundary(MAX_TEXT);
        let start = text.get(..start).unwrap_or_default();
        // What is cut through might no longer look like what it is.
        let whole = start.rfind(char::is_whitespace).and_then(|end| start.get(..end)).unwrap_or_default();
        Cow::Owned(format!("{}…", self.shapes.redact(whole)))
    }

    /// Takes secrets out of `value`: fields by their names, then every text in it, names included.
    pub fn value(&self, value: &mut Value) {
        self.walk(value, &mut Vec::new(), 0);
    }

    fn walk(&self, value: &mut Value, path: &mut Vec<String>, depth: usize) {
        if depth > MAX_DEPTH {
            *value = REDACTED.into();
            return;
        }
        match value {
            Value::String(text) => self.string(text),
            Value::Number(number) => {
                if let Cow::Owned(text) = self.shapes.redact(&number.to_string()) {
                    *value = text.into();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, path, depth + 1)),
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    path.push(normal(name));
                    if self.is_secret(path) {
                        hide(member);
                    } else {
                        self.walk(member, path, depth + 1);
                    }
                    path.pop();
                }
                if members.keys().any(|name| matches!(self.text(name), Cow::Owned(_))) {
                    let renamed = std::mem::take(members).into_iter();
                    *members = renamed
                        .map(|(name, member)| (self.text(&name).into_owned(), member))
                        .collect::<Map<_, _>>();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn is_secret(&self, path: &[String]) -> bool {
        let Some(name) = path.last() else { return false };
        if self.last.as_ref().is_some_and(|last| !last.contains(name)) {
            return false;
        }
        self.paths.iter().any(|wanted| {
            wanted.len() <= path.len()
                && wanted.iter().zip(path.iter().rev()).all(|(wanted, name)| wanted == "*" || wanted == name)
        })
    }

    /// Takes secrets out of a message. Its ids, its kind and what groups it stay: they are Checkrein's own.
    pub fn notification(&self, message: &mut Notification) {
        message.signals.iter_mut().for_each(|signal| self.signal(signal));
    }

    /// Takes secrets out of a signal. Its ids, its kind and its condition stay: they are Checkrein's own.
    pub fn signal(&self, signal: &mut Signal) {
        self.string(&mut signal.summary);
        signal.policies.iter_mut().for_each(|policy| self.string(policy));
        let fields = [
            (&mut signal.agent, "agent"),
            (&mut signal.session, "session"),
            (&mut signal.action, "action"),
            (&mut signal.resource, "resource"),
            (&mut signal.tool, "tool"),
            (&mut signal.by, "by"),
            (&mut signal.next, "next"),
        ];
        for (field, name) in fields {
            if let Some(text) = field {
                if self.is_secret(&[name.to_owned()]) {
                    REDACTED.clone_into(text);
                } else {
                    self.string(text);
                }
            }
        }
        if let Some(blast) = &mut signal.blast_radius {
            self.blast_radius(blast);
        }
    }

    fn blast_radius(&self, blast: &mut BlastRadius) {
        for share in &mut blast.by_resource {
            if let Cow::Owned(text) = self.text(share.resource.as_str())
                && let Ok(name) = Name::new(&text).or_else(|_| Name::new(REDACTED))
            {
                share.resource = name;
            }
        }
    }

    fn string(&self, text: &mut String) {
        if let Cow::Owned(redacted) = self.text(text) {
            *text = redacted;
        }
    }
}

/// A number can be a secret, a truth value cannot.
fn hide(value: &mut Value) {
    if !matches!(value, Value::Null | Value::Bool(_)) {
        *value = REDACTED.into();
    }
}

/// A field's name as it is compared.
fn normal(name: &str) -> String {
    let kept = name.chars().take(256).filter(|c| !matches!(c, '_' | '-') && !c.is_whitespace());
    kept.flat_map(char::to_lowercase).collect()
}
