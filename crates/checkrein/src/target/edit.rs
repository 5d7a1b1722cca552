//! Changes the configuration file, and nothing in it but what is meant: comments and order stay.

use checkrein_core::name::Name;
use std::ops::Range;
use toml_edit::{Document, DocumentMut, InlineTable, Item, Table, TableLike, value};

/// A target to be written down.
pub(super) struct New<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) place: Place<'a>,
    pub(super) environment: &'a str,
    pub(super) snapshot_when: Option<SnapshotWhen>,
}

/// Where it is. An address has a password in it, so it is only named.
pub(super) enum Place<'a> {
    UrlEnv(&'a str),
    UrlFile(String),
    Path(String),
}

/// As `--snapshot-when` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotWhen {
    Always,
    Never,
    RecordsExceed(u32),
}

/// `text` with a target more.
pub(super) fn added(text: &str, new: &New<'_>) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e| format!("is not TOML: {e}"))?;
    let targets = document.entry("targets").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let targets = targets.as_table_like_mut().ok_or("`targets` is no table; write [targets.NAME]")?;
    if let Some(key) = key_of(targets, new.name) {
        return Err(format!(
            "there is a target `{key}` already; edit it there, or remove it first with `checkrein target remove`"
        ));
    }
    let mut table = Table::new();
    table.insert("kind", value(new.kind));
    let named = |key: &str, text: &str| {
        let mut inline = InlineTable::new();
        inline.insert(key, text.into());
        value(inline)
    };
    match &new.place {
        Place::UrlEnv(name) => table.insert("url", named("env", name)),
        Place::UrlFile(file) => table.insert("url", named("file", file)),
        Place::Path(path) => table.insert("path", value(path)),
    };
    table.insert("environment", value(new.environment));
    match new.snapshot_when {
        None => None,
        Some(SnapshotWhen::Always) => table.insert("snapshot_when", value("always")),
        Some(SnapshotWhen::Never) => table.insert("snapshot_when", value("never")),
        Some(SnapshotWhen::RecordsExceed(n)) => {
            let mut inline = InlineTable::new();
            inline.insert("records_exceed", i64::from(n).into());
            table.insert("snapshot_when", value(inline))
        }
    };
    if !text.is_empty() {
        table.decor_mut().set_prefix("\n");
    }
    targets.insert(new.name, Item::Table(table));
    Ok(document.to_string())
}

/// `text` without the target, and the name that it has there.
pub(super) fn removed(text: &str, name: &str) -> Result<(String, String), String> {
    let missing = || format!("there is no target `{name}`");
    let document = Document::parse(text).map_err(|e| format!("is not TOML: {e}"))?;
    let targets = document.get("targets").and_then(Item::as_table_like).ok_or_else(missing)?;
    let key = key_of(targets, name).ok_or_else(missing)?;
    let mut cuts = Vec::new();
    if let Some(table) = targets.get(&key).and_then(Item::as_table).filter(|table| !table.is_dotted()) {
        headed(text, table, &mut cuts);
    }
    if cuts.is_empty() {
        // Written in one line with others, or by dotted keys: the comments of its line go with it.
        let mut document: DocumentMut = text.parse().map_err(|e| format!("is not TOML: {e}"))?;
        let targets = document.get_mut("targets").and_then(Item::as_table_like_mut);
        targets.ok_or_else(missing)?.remove(&key);
        return Ok((document.to_string(), key));
    }
    cuts.sort_by_key(|cut| std::cmp::Reverse(cut.start));
    let mut rest = text.to_owned();
    for cut in cuts {
        rest.replace_range(cut, "");
    }
    Ok((rest, key))
}

/// Where the table and those below it stand, with the comments right above their headings.
fn headed(text: &str, table: &Table, cuts: &mut Vec<Range<usize>>) {
    if let Some(heading) = table.span() {
        let mut end = heading.end;
        last(table, &mut end);
        cuts.push(block(text, heading.start, end));
    }
    for (_, item) in table {
        if let Item::Table(below) = item
            && !below.is_dotted()
        {
            headed(text, below, cuts);
        }
    }
}

/// Where the last value of the table itself ends.
fn last(table: &Table, end: &mut usize) {
    for (_, item) in table {
        match item {
            Item::Table(below) if below.is_dotted() => last(below, end),
            Item::Value(value) => *end = value.span().map_or(*end, |span| span.end.max(*end)),
            _ => {}
        }
    }
}

/// The lines from `start` to `end`, the comments right above and the blank lines below them.
fn block(text: &str, start: usize, end: usize) -> Range<usize> {
    let line_start = |at: usize| text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |n| n + 1);
    let mut start = line_start(start);
    while start > 0 {
        let above = line_start(start - 1);
        if !text.get(above..start).is_some_and(|line| line.trim_start().starts_with('#')) {
            break;
        }
        start = above;
    }
    let rest = text.get(end..).unwrap_or_default();
    let mut end = end + rest.find('\n').map_or(rest.len(), |n| n + 1);
    while let Some(line) = text.get(end..).and_then(|rest| rest.split_inclusive('\n').next())
        && line.trim().is_empty()
    {
        end += line.len();
    }
    start..end
}

/// The key of the target that is called `name`, however it is written.
fn key_of(targets: &dyn TableLike, name: &str) -> Option<String> {
    let wanted = Name::new(name).ok()?;
    targets.iter().map(|(key, _)| key).find(|key| Name::new(key).as_ref() == Ok(&wanted)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: New<'_> = New {
        name: "shop",
        kind: "postgres",
        place: Place::UrlEnv("SHOP_URL"),
        environment: "production",
        snapshot_when: None,
    };

    #[test]
    fn a_target_is_added_and_all_else_stays() {
        let text = "# ours\n[server]  # here\nlisten = '127.0.0.1:1'\n\n# last\n";
        let after = added(text, &NEW).unwrap();
        assert_eq!(
            after,
            "# ours\n[server]  # here\nlisten = '127.0.0.1:1'\n\n[targets.shop]\nkind = \"postgres\"\nurl = { env = \"SHOP_URL\" }\nenvironment = \"production\"\n\n# last\n"
        );
        assert!(added(&after, &NEW).unwrap_err().contains("already"));
        assert!(added(&after, &New { name: "SHOP", ..NEW }).unwrap_err().contains("`shop` already"));
        let dotted =
            added("", &New { name: "shop.eu", snapshot_when: Some(SnapshotWhen::RecordsExceed(7)), ..NEW });
        let dotted = dotted.unwrap();
        assert!(dotted.starts_with("[targets.\"shop.eu\"]\n"), "{dotted}");
        assert!(dotted.ends_with("snapshot_when = { records_exceed = 7 }\n"), "{dotted}");
        let inline = added("targets = { a = { kind = 'other' } }\n", &NEW).unwrap();
        assert_eq!(inline.lines().count(), 1, "{inline}");
        assert!(inline.contains("shop = {"), "{inline}");
        assert!(added("targets = 3\n", &NEW).is_err() && added("[", &NEW).is_err());
    }

    #[test]
    fn a_target_is_removed_and_all_else_stays() {
        let text = "# ours\n\n# the shop\n[targets.shop] # it\nkind = 'x' # c\nlimits.count = '1s' # d\n\n[server]\n# kept\n\
                    listen = 'x'\n[targets.shop.more]\na = 1\n# of the next\n[targets.b]\nkind = 'y'\n";
        let (after, key) = removed(text, "Shop").unwrap();
        assert_eq!(key, "shop");
        assert_eq!(
            after,
            "# ours\n\n[server]\n# kept\nlisten = 'x'\n# of the next\n[targets.b]\nkind = 'y'\n"
        );
        let (after, _) = removed(&after, "b").unwrap();
        assert_eq!(after, "# ours\n\n[server]\n# kept\nlisten = 'x'\n");
        assert!(removed(&after, "b").unwrap_err().contains("no target `b`"));
        let inline = "targets = { a = { kind = 'x' }, b = { kind = 'y' } }\n[server]\n";
        let (after, _) = removed(inline, "a").unwrap();
        assert!(!after.contains("'x'") && after.contains("'y'") && after.contains("[server]"), "{after}");
        let (after, _) = removed("[targets]\na.kind = 'x'\nb.kind = 'y'\n", "a").unwrap();
        assert_eq!(after, "[targets]\nb.kind = 'y'\n");
        let added = added(text, &NEW.at("c")).unwrap();
        assert_eq!(removed(&added, "c").unwrap().0.trim_end(), text.trim_end());
    }

    impl<'a> New<'a> {
        fn at(self, name: &'a str) -> Self {
            Self { name, ..self }
        }
    }
}
