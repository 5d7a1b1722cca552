//! Lists of names and hosts, kept so that asking whether something is in one of ten thousand is cheap.

use super::schema::{self, Path, Spelling};
use crate::name::{Name, NameError, Pattern};
use std::{borrow::Cow, net::IpAddr};

/// Alternatives for a name: literal ones, looked up, and globs, tried in turn.
/// Sorted and without duplicates, so that equal content compares equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patterns {
    literals: Box<[Name]>,
    globs: Box<[Pattern]>,
}

impl Patterns {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        let (mut literals, mut globs) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern.literal() {
                Some(name) => literals.push(name.clone()),
                None => globs.push(pattern),
            }
        }
        literals.sort_unstable();
        literals.dedup();
        globs.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        globs.dedup();
        Self { literals: literals.into(), globs: globs.into() }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.matching(name).is_some()
    }

    /// The first alternative that `name` fits, as it is written.
    pub(super) fn matching(&self, name: &str) -> Option<&str> {
        self.literal(name).or_else(|| self.globs.iter().find(|g| g.matches(name)).map(Pattern::as_str))
    }

    /// The first alternative that `resource` fits, in those of its spellings that count.
    pub(super) fn matching_resource(&self, resource: &str, spelling: Spelling) -> Option<&str> {
        let found = self.matching(resource);
        if found.is_some() || spelling == Spelling::Written {
            return found;
        }
        let path = Path::of(resource)?;
        match path {
            Path::Qualified { .. } => path.others().iter().find_map(|other| self.matching(other)),
            // Only what names a schema, or leaves a part open, can see more than was written.
            Path::Bare { head, .. } => {
                let literal = self.literals.iter().any(|l| schema::named_in(l).is_some());
                // `main.*` is a target's name far more often than it is a schema without one.
                let glob = !head.is_empty() && self.globs.iter().any(|g| agree(g.prefix(), head));
                let others = if literal || glob { path.others() } else { Default::default() };
                others.iter().find_map(|other| match glob {
                    true => self.matching(other),
                    false => self.literal(other),
                })
            }
        }
    }

    /// Where `resource` leaves open which one below it is meant (`shop.*`): the first alternative that one of
    /// those could fit.
    pub(super) fn open_match(&self, resource: &str) -> Option<&str> {
        let head = open(resource)?;
        let literal = self.literals.iter().map(Name::as_str).find(|literal| literal.starts_with(head));
        literal.or_else(|| self.globs.iter().find(|g| agree(g.prefix(), head)).map(Pattern::as_str))
    }

    fn literal(&self, name: &str) -> Option<&str> {
        let at = self.literals.binary_search_by(|l| l.as_str().cmp(name)).ok()?;
        self.literals.get(at).map(Name::as_str)
    }

    pub(super) fn literals(&self) -> &[Name] {
        &self.literals
    }

    pub(super) fn globs(&self) -> &[Pattern] {
        &self.globs
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().map(Name::as_str).chain(self.globs.iter().map(Pattern::as_str))
    }
}

/// What every resource begins with that `resource` may stand for, when it leaves that open: `shop.` of
/// `shop.*`.
pub(super) fn open(resource: &str) -> Option<&str> {
    resource.strip_suffix('*').filter(|head| head.ends_with('.'))
}

/// Whether one begins with the other.
fn agree(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// Hosts: exact ones, and domains all of whose subdomains are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    exact: Box<[Name]>,
    /// `example.com` for `*.example.com`.
    above: Box<[Name]>,
}

/// One entry of a list of hosts.
pub(super) enum Host {
    Exact(Name),
    Below(Name),
}

impl Host {
    /// `example.com`, `*.example.com`, an IP address. International names are brought to their ASCII form,
    /// as those of actions are.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let explain = "write a host like `example.com`, or `*.example.com` for its subdomains";
        let trimmed = text.trim();
        let (below, host) = match trimmed.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, trimmed),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.contains('*') {
            return Err(format!("`{}` is no host; {explain}", shown(text)));
        }
        let parsed = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(v6)) => url::Host::Ipv6(v6),
            Ok(IpAddr::V4(v4)) => url::Host::Ipv4(v4),
            Err(_) => url::Host::parse(host)
                .map_err(|e| format!("`{}` is no host ({e}); {explain}", shown(text)))?,
        };
        if below && !matches!(parsed, url::Host::Domain(_)) {
            return Err(format!("`{}`: an address has no subdomains; {explain}", shown(text)));
        }
        let name = Name::new(&parsed.to_string()).map_err(|e: NameError| e.to_string())?;
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl Hosts {
    pub(super) fn new(hosts: Vec<Host>) -> Self {
        let (mut exact, mut above) = (Vec::new(), Vec::new());
        for host in hosts {
            match host {
                Host::Exact(name) => exact.push(name),
                Host::Below(name) => above.push(name),
            }
        }
        for list in [&mut exact, &mut above] {
            list.sort_unstable();
            list.dedup();
        }
        Self { exact: exact.into(), above: above.into() }
    }

    pub(super) fn contains(&self, host: &str) -> bool {
        let has = |list: &[Name], text: &str| list.binary_search_by(|n| n.as_str().cmp(text)).is_ok();
        if has(&self.exact, host) {
            return true;
        }
        if self.above.is_empty() {
            return false;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if has(&self.above, parent) {
                return true;
            }
            rest = parent;
        }
        false
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.exact.iter().map(|n| n.as_str().to_owned()).chain(self.above.iter().map(|n| format!("*.{n}")))
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&word, k), *k))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// `text` for a message: no invisible characters, at most 80 characters.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    const MAX: usize = 80;
    if text.len() <= MAX && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX {
            out.push('…');
            break;
        }
        if crate::name::is_invisible(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(texts: &[&str]) -> Hosts {
        Hosts::new(texts.iter().map(|t| Host::parse(t).unwrap()).collect())
    }

    #[test]
    fn a_host_is_itself_and_a_starred_one_its_subdomains_only() {
        let list = hosts(&["Example.com.", "*.Corp.example", "BÜCHER.example", "10.0.0.1", "::1"]);
        for inside in [
            "example.com",
            "a.corp.example",
            "a.b.corp.example",
            "xn--bcher-kva.example",
            "10.0.0.1",
            "[::1]",
        ] {
            assert!(list.contains(inside), "{inside}");
        }
        for outside in ["www.example.com", "corp.example", "evilcorp.example", "example.com.evil.net", "com"]
        {
            assert!(!list.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            "a*.com",
            "https://example.com",
            "example.com:80",
            "a b",
            "*.10.0.0.1",
            "a@b.com",
            "exa\u{200B}*mple",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn finds_the_key_that_was_meant() {
        let known =
            ["resource_pattern", "record_count_exceeds", "recipient_count_exceeds", "rate_exceeds", "not"];
        assert_eq!(nearest("resorce_pattern", &known), Some("resource_pattern"));
        assert_eq!(nearest("Record_Count_Exceed", &known), Some("record_count_exceeds"));
        assert_eq!(nearest("zzz", &known), None);
    }
}
