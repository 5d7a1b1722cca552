//! The systems that Checkrein is connected to, by name.

use super::{App, Caller, Error};
use crate::config::{ConnectedTarget, SnapshotWhen};
use checkrein_api::{TargetList, TargetPrivilege, TargetReport, TargetView};
use checkrein_core::{action::Environment, name::Name};
use checkrein_targets::{Place, Target, TargetConfig};
use secrecy::ExposeSecret as _;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A target, and what the operator says of it.
pub struct Connected {
    /// The first part of its resources' names.
    pub name: Name,
    /// What it is for.
    pub environment: Environment,
    /// Which executions on it leave a snapshot.
    pub snapshot_when: SnapshotWhen,
    /// Whether some of its records are shown to whoever is asked about an action on them.
    pub sample: bool,
    /// The system. Whoever holds it keeps it, even when a reload has taken it out of the configuration.
    pub target: Arc<dyn Target>,
    /// Whose turn it is to read a sample: one at a time, for checks are counted over the same connections.
    pub(super) sampling: Arc<Semaphore>,
    config: TargetConfig,
}

impl Connected {
    /// The name of a resource of this target: `public.users` → `shop.public.users`.
    ///
    /// # Errors
    /// When the system calls it something that is no name: too long, or with invisible characters.
    pub fn resource(&self, path: &str) -> Result<Name, checkrein_core::name::NameError> {
        if path.is_empty() { Ok(self.name.clone()) } else { Name::new(&format!("{}.{path}", self.name)) }
    }

    /// Which kind of system.
    pub fn kind(&self) -> checkrein_targets::Kind {
        self.target.kind()
    }

    /// What one use of it may take.
    pub const fn limits(&self) -> &checkrein_targets::Limits {
        &self.config.limits
    }
}

/// All of them. Replaced as a whole when the configuration is read again.
#[derive(Default)]
pub struct Targets {
    by_name: BTreeMap<Name, Arc<Connected>>,
    /// Dots in the name that has the most of them.
    dots: usize,
}

impl Targets {
    /// Opens what `described` lists. Nothing is connected to before the first use.
    ///
    /// One that `before` has and that is described as it was stays the same, with its connections.
    ///
    /// # Errors
    /// When one cannot be what it is described as.
    pub(super) fn open(described: &[ConnectedTarget], before: &Self) -> Result<Self, Error> {
        let mut targets = Self::default();
        for ConnectedTarget { environment, snapshot_when, sample, config } in described {
            let invalid = |why: &dyn std::fmt::Display| {
                Error::Invalid(format!("the target {}: {why}", config.name.escape_debug()))
            };
            let name = Name::new(&config.name).map_err(|e| invalid(&e))?;
            let (target, sampling) = match before.by_name.get(&name).filter(|old| same(&old.config, config)) {
                Some(old) => (Arc::clone(&old.target), Arc::clone(&old.sampling)),
                None => (
                    checkrein_targets::open(config.clone()).map_err(|e| invalid(&e))?,
                    Arc::new(Semaphore::new(1)),
                ),
            };
            targets.dots = targets.dots.max(name.matches('.').count());
            let connected = Connected {
                name: name.clone(),
                environment: *environment,
                snapshot_when: *snapshot_when,
                sample: *sample,
                target,
                sampling,
                config: config.clone(),
            };
            targets.by_name.insert(name, Arc::new(connected));
        }
        Ok(targets)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Connected>> {
        self.by_name.values()
    }

    /// The target of this name, however it is written.
    pub fn get(&self, name: &str) -> Option<&Arc<Connected>> {
        self.by_name.get(&Name::new(name).ok()?)
    }

    /// The target that a resource belongs to, and the resource's path below it as it is written; empty for
    /// the target itself. The longest fitting name wins: `shop.eu.users` belongs to `shop.eu` before `shop`.
    pub fn of<'r>(&self, resource: &'r str) -> Option<(&Arc<Connected>, &'r str)> {
        if self.is_empty() {
            return None;
        }
        let resource = resource.trim();
        let ends = resource.match_indices('.').map(|(at, _)| at).chain([resource.len()]);
        let fitting = |end| {
            let (head, tail) = resource.split_at_checked(end)?;
            // `shop .users` is another name than `shop.users`.
            let head = Some(head).filter(|head| head.trim_end() == *head)?;
            Some((self.get(head)?, tail.strip_prefix('.').unwrap_or(tail)))
        };
        ends.take(self.dots + 1).filter_map(fitting).fold(None, |_, longer| Some(longer))
    }
}

impl App {
    /// The systems that it is connected to.
    pub fn list_targets(&self) -> TargetList {
        let view = |connected: &Arc<Connected>| TargetView {
            name: connected.name.to_string(),
            kind: connected.kind().as_str().to_owned(),
            environment: connected.environment,
        };
        TargetList { targets: self.targets().iter().map(view).collect() }
    }

    /// Connects to a target and looks whether everything that is needed is there.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn test_target(&self, caller: &Caller, name: &str) -> Result<TargetReport, Error> {
        caller.within_limit()?;
        let targets = self.targets();
        let connected = targets
            .get(name)
            .ok_or_else(|| Error::NotFound("connected target", name.chars().take(64).collect()))?;
        Ok(test(&*connected.target, connected.limits()).await)
    }
}

impl ConnectedTarget {
    /// As [`App::test_target`], without a server.
    pub async fn test(&self) -> TargetReport {
        match checkrein_targets::open(self.config.clone()) {
            Ok(target) => test(&*target, &self.config.limits).await,
            Err(error) => failed(&error),
        }
    }

    /// The least that `account` needs on the target, as statements to run.
    ///
    /// # Errors
    /// When the target cannot be what it is described as.
    pub async fn grants(&self, account: &str) -> Result<String, Error> {
        let target =
            checkrein_targets::open(self.config.clone()).map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(target.grants(account).await)
    }
}

async fn test(target: &dyn Target, limits: &checkrein_targets::Limits) -> TargetReport {
    // Beyond connecting, a test asks for a few settings.
    let limit = limits.connect.saturating_add(Duration::from_secs(30));
    match tokio::time::timeout(limit, target.test()).await {
        Ok(Ok(report)) => TargetReport {
            ok: report.privileges.iter().all(|p| p.ok),
            system: Some(report.system),
            error: None,
            privileges: report
                .privileges
                .into_iter()
                .map(|p| TargetPrivilege { needed_for: p.needed_for, ok: p.ok, message: p.message })
                .collect(),
        },
        Ok(Err(error)) => failed(&error),
        Err(_) => failed(&checkrein_targets::Error::TimedOut { what: "the test", limit }),
    }
}

fn failed(error: &checkrein_targets::Error) -> TargetReport {
    TargetReport { ok: false, system: None, error: Some(error.to_string()), privileges: Vec::new() }
}

/// Whether two descriptions lead to the same system in the same way.
fn same(a: &TargetConfig, b: &TargetConfig) -> bool {
    let place = match (&a.place, &b.place) {
        (Place::Postgres(a), Place::Postgres(b)) | (Place::Mysql(a), Place::Mysql(b)) => {
            a.expose_secret() == b.expose_secret()
        }
        (Place::Sqlite(a), Place::Sqlite(b)) | (Place::Files(a), Place::Files(b)) => a == b,
        _ => false,
    };
    place && a.name == b.name && a.limits == b.limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use checkrein_targets::Limits;

    fn described(name: &str, path: &str) -> ConnectedTarget {
        ConnectedTarget {
            environment: Environment::Staging,
            snapshot_when: SnapshotWhen::default(),
            sample: true,
            config: TargetConfig {
                name: name.to_owned(),
                place: Place::Files(path.into()),
                limits: Limits::default(),
            },
        }
    }

    fn open(names: &[&str]) -> Targets {
        let dir = std::env::temp_dir().display().to_string();
        let described: Vec<_> = names.iter().map(|name| described(name, &dir)).collect();
        Targets::open(&described, &Targets::default()).unwrap()
    }

    #[test]
    fn the_longest_name_wins_and_the_path_stays_as_written() {
        let targets = open(&["Shop", "shop.eu", "bücher"]);
        let of = |resource: &str| targets.of(resource).map(|(t, path)| (t.name.to_string(), path.to_owned()));
        let some = |name: &str, path: &str| Some((name.to_owned(), path.to_owned()));
        assert_eq!(of("shop.public.Users"), some("shop", "public.Users"));
        assert_eq!(of(" SHOP.EU.Users "), some("shop.eu", "Users"));
        assert_eq!(of("shop.eu"), some("shop.eu", ""));
        assert_eq!(of("shop"), some("shop", ""));
        assert_eq!(of("shop."), some("shop", ""));
        assert_eq!(of("BÜCHER.a"), some("bücher", "a"));
        assert_eq!(of("bu\u{308}cher.a"), some("bücher", "a"));
        for other in [
            "shopping.users",
            "x.shop.users",
            "shop .users",
            "",
            ".",
            "https://shop.example/",
            "sh\u{200b}op.a",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(Targets::default().of("shop.users").map(|(_, path)| path.to_owned()), None);
    }

    #[test]
    fn what_is_described_as_before_is_kept() {
        let dir = std::env::temp_dir().display().to_string();
        let before = open(&["a", "b", "c"]);
        let mut limits = described("b", &dir);
        limits.config.limits.connections += 1;
        let mut environment = described("a", &dir);
        environment.environment = Environment::Production;
        let after = Targets::open(&[environment, limits], &before).unwrap();
        let kept =
            |name: &str| Arc::ptr_eq(&before.get(name).unwrap().target, &after.get(name).unwrap().target);
        assert!(kept("a") && !kept("b"));
        assert!(after.get("c").is_none());
        assert_eq!(after.get("A").unwrap().environment, Environment::Production);
    }
}
