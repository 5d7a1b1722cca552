//! `[targets.NAME]`: the systems that Checkrein is connected to, or only knows the environment of.

use super::{Env, HOUR, SECOND, document::Section};
use checkrein_core::{action::Environment, classify::TargetInfo, name::Pattern};
use checkrein_targets::{Kind, Limits, Place, TargetConfig};
use std::time::Duration;

/// A target that Checkrein connects to.
#[derive(Clone, Debug)]
pub struct ConnectedTarget {
    /// What it is for.
    pub environment: Environment,
    /// Which executions on it leave a snapshot.
    pub snapshot_when: SnapshotWhen,
    /// Whether some of its records are shown to whoever is asked about an action on them.
    pub sample: bool,
    /// Its name, where it is, and what one use of it may take.
    pub config: TargetConfig,
}

/// Which allowed actions on a target leave a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotWhen {
    /// All that change something.
    Always,
    /// None.
    Never,
    /// Those that change more records than this.
    RecordsExceed(u64),
}

impl Default for SnapshotWhen {
    /// More than one record.
    fn default() -> Self {
        Self::RecordsExceed(1)
    }
}

impl SnapshotWhen {
    /// Whether an action that changes `records` records leaves one. One that changes nothing never does.
    pub const fn wants(self, records: u64) -> bool {
        match self {
            Self::Always => records > 0,
            Self::Never => false,
            Self::RecordsExceed(n) => records > n,
        }
    }
}

/// Every target that is described well enough, each with its line; and how to connect to it, where that is
/// known.
pub(super) fn read(
    root: &mut Section<'_>,
    env: Option<Env<'_>>,
) -> Vec<(TargetInfo, usize, Option<ConnectedTarget>)> {
    let mut found = Vec::new();
    for (name, section) in root.named("targets") {
        let line = section.line;
        found.extend(target(name, section, env).map(|(info, connected)| (info, line, connected)));
    }
    found
}

fn target(
    name: &str,
    mut section: Section<'_>,
    env: Option<Env<'_>>,
) -> Option<(TargetInfo, Option<ConnectedTarget>)> {
    let kinds = || {
        let known: Vec<_> = Kind::ALL.map(Kind::as_str).into_iter().chain(["other"]).collect();
        format!("write one of {}", known.join(", "))
    };
    let kind = section.text("kind", |text| match Kind::ALL.into_iter().find(|k| k.as_str() == text) {
        Some(kind) => Ok(Some(kind)),
        None if text == "other" => Ok(None),
        None => Err(format!("`{}` is no kind of target; {}", text.escape_debug(), kinds())),
    });
    let Some(kind) = kind else {
        // Nothing else is said about a target that cannot be one.
        if section.line_of("kind").is_none() {
            section.problem("kind", format!("is missing; {}", kinds()));
        }
        return None;
    };
    let environment = section.text("environment", |text| match text {
        "production" => Ok(Environment::Production),
        "staging" => Ok(Environment::Staging),
        "sandbox" => Ok(Environment::Sandbox),
        _ => Err("must be production, staging or sandbox".to_owned()),
    });
    if environment.is_none() && section.line_of("environment").is_none() {
        section.problem("environment", "is missing; write production, staging or sandbox");
    }
    let mut resources = Vec::new();
    for text in section.texts("resources") {
        match Pattern::new(&text) {
            Ok(pattern) => resources.push(pattern),
            Err(e) => section.problem("resources", e.to_string()),
        }
    }
    let connected = kind.and_then(|kind| {
        let snapshot_when = snapshot_when(&mut section);
        let sample = section.flag("sample").unwrap_or(true);
        let limits = section.section("limits").map(limits).unwrap_or_default();
        let config = TargetConfig { name: name.to_owned(), place: place(kind, &mut section, env)?, limits };
        // Nothing is connected to here; this only looks whether the address can be understood.
        if let Err(error) = checkrein_targets::open(config.clone()) {
            section.problem(where_key(kind), error.to_string());
        }
        Some((snapshot_when, sample, config))
    });
    section.finish();
    let environment = environment?;
    let connected = connected.map(|(snapshot_when, sample, config)| ConnectedTarget {
        environment,
        snapshot_when: snapshot_when.unwrap_or_default(),
        sample,
        config,
    });
    let sql = matches!(kind, Some(Kind::Postgres | Kind::Mysql | Kind::Sqlite));
    Some((TargetInfo { name: name.to_owned(), environment, resources, sql }, connected))
}

/// The key that says where a target of this kind is.
const fn where_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres | Kind::Mysql => "url",
        Kind::Sqlite | Kind::Files => "path",
    }
}

fn place(kind: Kind, section: &mut Section<'_>, env: Option<Env<'_>>) -> Option<Place> {
    let key = where_key(kind);
    if section.line_of(key).is_none() {
        let example = match kind {
            Kind::Postgres | Kind::Mysql => "url = { env = \"SHOP_URL\" }",
            Kind::Sqlite => "path = \"shop.db\"",
            Kind::Files => "path = \"invoices\"",
        };
        section.problem(key, format!("is missing; write {example}"));
    }
    match kind {
        Kind::Postgres => section.secret(key, env).map(Place::Postgres),
        Kind::Mysql => section.secret(key, env).map(Place::Mysql),
        Kind::Sqlite => section.path(key).map(Place::Sqlite),
        Kind::Files => section.path(key).map(Place::Files),
    }
}

fn snapshot_when(section: &mut Section<'_>) -> Option<SnapshotWhen> {
    let key = "snapshot_when";
    if section.is_table(key) {
        let mut table = section.section(key)?;
        let records = table.number("records_exceed", (0, u32::MAX));
        if records.is_none() && table.line_of("records_exceed").is_none() {
            table.problem("records_exceed", "is missing; write { records_exceed = 1 }");
        }
        table.finish();
        return records.map(|n| SnapshotWhen::RecordsExceed(n.into()));
    }
    section.text(key, |text| match text {
        "always" => Ok(SnapshotWhen::Always),
        "never" => Ok(SnapshotWhen::Never),
        _ => Err("must be \"always\", \"never\" or { records_exceed = 1 }".to_owned()),
    })
}

fn limits(mut section: Section<'_>) -> Limits {
    const TENTH: Duration = Duration::from_millis(100);
    const MINUTE: Duration = Duration::from_secs(60);
    let mut limits = Limits::default();
    for (key, place, range) in [
        ("connect", &mut limits.connect, (TENTH, MINUTE)),
        ("lock", &mut limits.lock, (Duration::from_millis(10), 10 * MINUTE)),
        ("count", &mut limits.count, (Duration::from_millis(10), MINUTE)),
        ("execute", &mut limits.execute, (TENTH, HOUR)),
        ("snapshot", &mut limits.snapshot, (SECOND, 24 * HOUR)),
    ] {
        if let Some(duration) = section.duration(key, range) {
            *place = duration;
        }
    }
    for (key, place, most) in [
        ("snapshot_rows", &mut limits.snapshot_rows, u32::MAX),
        ("result_rows", &mut limits.result_rows, 1_000_000),
    ] {
        if let Some(n) = section.number(key, (1, most)) {
            *place = n.into();
        }
    }
    for (key, place, range) in [
        ("snapshot_bytes", &mut limits.snapshot_bytes, (1 << 10, 1 << 44)),
        ("result_bytes", &mut limits.result_bytes, (1 << 10, 256 << 20)),
    ] {
        if let Some(bytes) = section.size(key, range) {
            *place = bytes;
        }
    }
    if let Some(n) = section.number("connections", (1, 1_000)) {
        limits.connections = n;
    }
    section.finish();
    limits
}
