//! What a target says that an action touches, and what becomes of the action's record by it.

use crate::{
    action::{Action, Category, Count, Effect, Environment},
    classify::{MAX_EFFECTS, Refused},
    decision::{Basis, BlastRadius, ResourceCount},
    name::Name,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// How a record comes to be affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It is read or returned, not changed.
    Read,
    /// Inserted.
    Insert,
    /// Updated, by the statement itself, a trigger or a foreign key.
    Update,
    /// Deleted by the statement itself.
    Delete,
    /// Deleted because a record that it refers to is.
    Cascade,
    /// Its reference is set to null or to its default.
    Unlink,
}

impl How {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Cascade => "cascade",
            Self::Unlink => "unlink",
        }
    }

    /// What policies' `action` is compared with, and what kind of effect it is.
    const fn effect(self) -> Option<(&'static [&'static str], Category)> {
        match self {
            Self::Read => None,
            Self::Insert => Some((&["insert", "create"], Category::Write)),
            Self::Update | Self::Unlink => Some((&["update"], Category::Write)),
            Self::Delete | Self::Cascade => Some((&["delete"], Category::Delete)),
        }
    }
}

/// Records of one resource that are affected in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// `<target>.<path>`.
    pub resource: Name,
    /// How.
    pub how: How,
    /// How many.
    pub records: u64,
}

/// What a target says about an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Counted before the action, or measured in it.
    pub basis: Basis,
    /// The target's.
    pub environment: Environment,
    /// One entry a resource and way.
    pub touched: Vec<Touched>,
    /// False when it may be more than this: `touched` is the least that is affected then.
    pub whole: bool,
}

impl Found {
    /// The most records of one resource that are affected in one way and by the action itself, not because
    /// they refer to such records.
    fn own(&self) -> u64 {
        let own = self.touched.iter().filter(|t| !matches!(t.how, How::Cascade | How::Unlink));
        own.map(|t| t.records).max().unwrap_or(0)
    }

    /// Records changed or removed, or records read, whichever is more: a change that returns what it changed is
    /// counted once, and one that returns a whole table beside is not passed off as small.
    pub fn records(&self) -> u64 {
        let sum = |reads: bool| {
            let counted = self.touched.iter().filter(|t| (t.how == How::Read) == reads);
            counted.fold(0_u64, |sum, t| sum.saturating_add(t.records))
        };
        sum(true).max(sum(false))
    }
}

impl Action {
    /// Adds what a target found: every touched resource is an effect of the action from now on, so that
    /// policies on it see it, and `records` is the largest of what was stated and what was found; unknown
    /// where it may be more than was found.
    ///
    /// # Errors
    /// When that makes more effects than can be judged.
    pub fn affect(&mut self, found: &Found) -> Result<(), Refused> {
        for touched in found.touched.iter().filter(|t| t.records > 0) {
            let Some((words, category)) = touched.how.effect() else { continue };
            let names: SmallVec<[Name; 3]> = words.iter().filter_map(|word| Name::new(word).ok()).collect();
            let known = self.effects.iter().any(|e| {
                e.category == category
                    && e.resource == touched.resource
                    && e.environment >= found.environment
                    && names.iter().all(|name| e.names.contains(name))
            });
            if known {
                continue;
            }
            if self.effects.len() >= MAX_EFFECTS {
                return Err(Refused::TooManyTables(MAX_EFFECTS));
            }
            if category > self.category {
                self.category = category;
                self.resource = touched.resource.clone();
            }
            self.environment = self.environment.max(found.environment);
            let resource = touched.resource.clone();
            self.effects.push(Effect { names, category, resource, environment: found.environment });
        }
        self.records = if found.whole {
            let stated = self.declared.into_iter().chain(self.records.known()).max().unwrap_or(0);
            Count::Known(found.records().max(stated))
        } else {
            Count::Unknown
        };
        Ok(())
    }
}

impl Action {
    /// Says that nobody knows what this action touches on a target beyond what it names: which other records
    /// go or change with those, through foreign keys. Policies on any resource of the target may match then,
    /// and the number of records is unknown.
    ///
    /// # Errors
    /// When that makes more effects than can be judged.
    pub fn affect_unknown(&mut self, target: &Name, environment: Environment) -> Result<(), Refused> {
        self.records = Count::Unknown;
        let has = |effect: &Effect, word: &str| effect.names.iter().any(|name| name.as_str() == word);
        let deletes = self.effects.iter().any(|e| e.category == Category::Delete);
        let changes = self.effects.iter().any(|e| {
            // What is new is not referred to yet.
            e.category == Category::Write && !has(e, "insert") && !has(e, "create")
        });
        let resource = Name::new(&format!("{target}.*")).map_err(Refused::InnerName)?;
        for how in [(How::Cascade, deletes), (How::Unlink, deletes || changes)] {
            let (how, true) = how else { continue };
            let Some((words, category)) = how.effect() else { continue };
            if self.effects.len() >= MAX_EFFECTS {
                return Err(Refused::TooManyTables(MAX_EFFECTS));
            }
            let names = words.iter().filter_map(|word| Name::new(word).ok()).collect();
            self.effects.push(Effect { names, category, resource: resource.clone(), environment });
        }
        Ok(())
    }

    /// This action and `other` of the same agent, as one: named after the graver.
    ///
    /// # Errors
    /// When that makes more effects than can be judged.
    pub fn and(self, other: Self) -> Result<Self, Refused> {
        let (mut whole, rest) = if other.category > self.category { (other, self) } else { (self, other) };
        if whole.effects.len() + rest.effects.len() > MAX_EFFECTS {
            return Err(Refused::TooManyTables(MAX_EFFECTS));
        }
        whole.effects.extend(rest.effects);
        whole.environment = whole.environment.max(rest.environment);
        whole.records = whole.records.plus(rest.records);
        whole.systems = whole.systems.max(rest.systems);
        whole.recipients = whole.recipients.max(rest.recipients);
        whole.payload_bytes = whole.payload_bytes.saturating_add(rest.payload_bytes);
        whole.domains.unknown |= rest.domains.unknown;
        for host in rest.domains.known {
            if !whole.domains.known.contains(&host) {
                whole.domains.known.push(host);
            }
        }
        Ok(whole)
    }
}

impl BlastRadius {
    /// How much `action` affects: as it is stated, or as a target `found` it, which [`Action::affect`] has
    /// added to it.
    pub fn of(action: &Action, found: Option<&Found>) -> Self {
        let mut radius = Self {
            records: action.records,
            systems: action.systems,
            recipients: action.recipients,
            basis: Basis::Declared,
            declared: action.declared,
            declared_ids: action.declared_ids,
            understated: false,
            by_resource: vec![ResourceCount {
                resource: action.resource.clone(),
                records: action.records,
                how: None,
            }],
        };
        let Some(found) = found else { return radius };
        radius.basis = found.basis;
        // Whoever gives ids says nothing about what follows from those.
        let records = if action.declared_ids { found.own() } else { found.records() };
        // Off by one is how people count; less than half is not.
        radius.understated =
            action.declared.is_some_and(|n| n < records.div_ceil(2) && records.saturating_sub(n) >= 2);
        let mut touched: Vec<&Touched> = found.touched.iter().filter(|t| t.records > 0).collect();
        touched.sort_by_key(|t| std::cmp::Reverse(t.records));
        if !touched.is_empty() {
            let count = |t: &Touched| ResourceCount {
                resource: t.resource.clone(),
                records: Count::Known(t.records),
                how: Some(t.how),
            };
            radius.by_resource = touched.into_iter().map(count).collect();
        }
        radius
    }

    /// How the number that the agent gave compares with what was found, where that needs a word: `The agent
    /// stated 12 records; 10160 were counted.`
    pub fn comparison(&self, found: &Found) -> Option<String> {
        let declared = self.declared?;
        let (records, own) = (found.records(), found.own());
        let is = |counted: String| match self.basis {
            Basis::Measured => format!("it changes {counted}"),
            Basis::Declared | Basis::Counted => format!("{counted} were counted"),
        };
        let ids = if declared == 1 { "1 id was" } else { &format!("{declared} ids were") };
        match (self.declared_ids, self.understated) {
            (false, true) => {
                Some(format!("The agent stated {declared} records; {}.", is(records.to_string())))
            }
            (true, true) => Some(format!("{ids} given; {}.", is(format!("{records} records")))),
            (true, false) if records > own && found.whole => {
                let follows = records - own;
                Some(format!(
                    "{ids} given; it is {records} records with what follows from those ({follows})."
                ))
            }
            (_, false) => None,
        }
    }

    /// Whether this is more than `approved`, anywhere in it: what a person has said yes to does not cover it.
    pub fn exceeds(&self, approved: &Self) -> bool {
        let over = |now: Count, then: Count| match (now, then) {
            (Count::Unknown, then) => then != Count::Unknown,
            (Count::Known(_), Count::Unknown) => false,
            (Count::Known(now), Count::Known(then)) => now > then,
        };
        if over(self.records, approved.records) {
            return true;
        }
        // What was not counted then cannot be compared in parts.
        if approved.basis == Basis::Declared {
            return false;
        }
        self.by_resource.iter().any(|now| {
            let then = approved.by_resource.iter().find(|r| r.resource == now.resource && r.how == now.how);
            over(now.records, then.map_or(Count::Known(0), |r| r.records))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Check, classify::Catalogue};
    use serde_json::json;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn action(body: serde_json::Value) -> Action {
        let check: Check = serde_json::from_value(body).unwrap();
        Catalogue::default().classify(&check, name("bot")).unwrap()
    }

    fn found(touched: &[(&str, How, u64)]) -> Found {
        let touched = touched.iter().map(|(resource, how, records)| Touched {
            resource: name(resource),
            how: *how,
            records: *records,
        });
        let environment = Environment::Staging;
        Found { basis: Basis::Counted, environment, touched: touched.collect(), whole: true }
    }

    fn delete(declared: u64) -> Action {
        action(json!({"action": "delete", "resource": "shop.users", "payload": {"record_count": declared}}))
    }

    #[test]
    fn what_is_found_is_judged_beside_what_was_named() {
        let mut action = delete(12);
        let found = found(&[
            ("shop.users", How::Delete, 10_000),
            ("shop.orders", How::Cascade, 3),
            ("shop.notes", How::Unlink, 2),
            ("shop.tags", How::Cascade, 0),
        ]);
        action.affect(&found).unwrap();
        assert_eq!(action.records, Count::Known(10_005));
        let effects: Vec<_> =
            action.effects.iter().map(|e| (e.resource.as_str(), e.names[0].as_str(), e.category)).collect();
        assert_eq!(
            effects,
            [
                ("shop.users", "delete", Category::Delete),
                ("shop.orders", "delete", Category::Delete),
                ("shop.notes", "update", Category::Write),
            ]
        );
        let radius = BlastRadius::of(&action, Some(&found));
        assert_eq!((radius.basis, radius.declared, radius.understated), (Basis::Counted, Some(12), true));
        let parts: Vec<_> =
            radius.by_resource.iter().map(|r| (r.resource.as_str(), r.how, r.records.known())).collect();
        assert_eq!(
            parts,
            [
                ("shop.users", Some(How::Delete), Some(10_000)),
                ("shop.orders", Some(How::Cascade), Some(3)),
                ("shop.notes", Some(How::Unlink), Some(2)),
            ]
        );
    }

    #[test]
    fn what_follows_from_an_action_that_could_not_be_counted_is_open() {
        let effects = |body| {
            let mut action = action(body);
            action.affect_unknown(&name("shop"), Environment::Staging).unwrap();
            assert_eq!(action.records, Count::Unknown);
            let open = action.effects.iter().filter(|e| e.resource.as_str() == "shop.*");
            open.map(|e| e.names.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            effects(json!({"action": "delete", "resource": "shop.users", "record_ids": [1]})),
            ["delete", "update"]
        );
        assert_eq!(
            effects(json!({"action": "refund", "resource": "shop.users", "record_ids": [1]})),
            ["update"]
        );
        assert_eq!(
            effects(json!({"action": "insert", "resource": "shop.users", "record_ids": [1]})),
            [""; 0]
        );
        assert_eq!(effects(json!({"action": "read", "resource": "shop.users", "record_ids": [1]})), [""; 0]);
    }

    #[test]
    fn an_effect_that_is_graver_names_the_action() {
        let mut action = action(json!({"action": "update", "resource": "shop.users", "record_ids": [1]}));
        action.affect(&found(&[("shop.users", How::Update, 1), ("shop.audit", How::Delete, 1)])).unwrap();
        assert_eq!((action.category, action.resource.as_str()), (Category::Delete, "shop.audit"));
    }

    #[test]
    fn the_largest_number_counts_and_a_part_is_none() {
        let mut stated = delete(50);
        stated.affect(&found(&[("shop.users", How::Delete, 7)])).unwrap();
        assert_eq!(stated.records, Count::Known(50));
        let mut silent = action(json!({"action": "delete", "resource": "shop.users"}));
        assert_eq!(silent.records, Count::Unknown);
        silent.affect(&found(&[])).unwrap();
        assert_eq!(silent.records, Count::Known(0));
        let least = Found { whole: false, ..found(&[("shop.users", How::Delete, 7)]) };
        silent.affect(&least).unwrap();
        assert_eq!(silent.records, Count::Unknown);
        assert_eq!(BlastRadius::of(&silent, Some(&least)).by_resource[0].records, Count::Known(7));
    }

    #[test]
    fn what_is_read_and_what_is_changed_are_not_added() {
        assert_eq!(found(&[("a.b", How::Read, 9)]).records(), 9);
        assert_eq!(found(&[("a.b", How::Read, 9), ("a.c", How::Insert, 2)]).records(), 9, "the larger");
        assert_eq!(found(&[("a.b", How::Read, 1), ("a.c", How::Insert, 2)]).records(), 2);
        let most = u64::MAX;
        assert_eq!(found(&[("a.b", How::Update, most), ("a.c", How::Update, most)]).records(), most);
    }

    #[test]
    fn understated_is_less_than_half_and_more_than_a_slip() {
        for (declared, counted, understated) in [
            (12, 10_000, true),
            (0, 1, false),
            (0, 2, true),
            (1, 2, false),
            (1, 3, true),
            (5, 10, false),
            (5, 11, true),
        ] {
            let mut action = delete(declared);
            let found = found(&[("shop.users", How::Delete, counted)]);
            action.affect(&found).unwrap();
            let said = BlastRadius::of(&action, Some(&found)).understated;
            assert_eq!(said, understated, "{declared} of {counted}");
        }
    }

    #[test]
    fn ids_say_nothing_about_what_follows_from_them() {
        let ids = |ids: &[u64], more: Option<u64>| {
            let payload = more.map_or(json!({}), |n| json!({"record_count": n}));
            action(
                json!({"action": "delete", "resource": "shop.users", "record_ids": ids, "payload": payload}),
            )
        };
        let judged = |mut action: Action, touched: &[(&str, How, u64)]| {
            let found = found(touched);
            action.affect(&found).unwrap();
            let radius = BlastRadius::of(&action, Some(&found));
            (radius.declared_ids, radius.understated, radius.comparison(&found).unwrap_or_default())
        };
        let four = [("shop.users", How::Delete, 4), ("shop.orders", How::Cascade, 16)];
        assert_eq!(
            judged(ids(&[1, 2, 3, 4], None), &four),
            (true, false, "4 ids were given; it is 20 records with what follows from those (16).".into())
        );
        assert_eq!(judged(ids(&[1, 2, 3, 4], None), &four[..1]), (true, false, String::new()));
        // A number that is stated is one about the whole.
        assert_eq!(
            judged(ids(&[1, 2, 3, 4], Some(4)), &four),
            (false, true, "The agent stated 4 records; 20 were counted.".into())
        );
        // The statement goes beyond the ids.
        let beyond = [("shop.users", How::Delete, 900), ("shop.orders", How::Cascade, 16)];
        assert_eq!(
            judged(ids(&[1], None), &beyond),
            (true, true, "1 id was given; 916 records were counted.".into())
        );
    }

    #[test]
    fn more_tables_than_can_be_judged_are_refused() {
        let touched = (0..MAX_EFFECTS + 1).map(|i| Touched {
            resource: name(&format!("shop.t{i}")),
            how: How::Cascade,
            records: 1,
        });
        let many = Found { touched: touched.collect(), ..found(&[]) };
        assert_eq!(delete(1).affect(&many), Err(Refused::TooManyTables(MAX_EFFECTS)));
    }

    #[test]
    fn more_anywhere_is_more_than_was_approved() {
        let radius = |parts: &[(&str, How, u64)]| {
            let mut action = delete(0);
            let found = found(parts);
            action.affect(&found).unwrap();
            BlastRadius::of(&action, Some(&found))
        };
        let approved = radius(&[("shop.users", How::Delete, 10), ("shop.orders", How::Cascade, 5)]);
        assert!(!approved.exceeds(&approved));
        assert!(
            !radius(&[("shop.users", How::Delete, 9), ("shop.orders", How::Cascade, 5)]).exceeds(&approved)
        );
        assert!(radius(&[("shop.users", How::Delete, 11)]).exceeds(&approved));
        assert!(radius(&[("shop.audit", How::Cascade, 1)]).exceeds(&approved), "another table");
        let unknown = BlastRadius { records: Count::Unknown, ..approved.clone() };
        assert!(unknown.exceeds(&approved) && !approved.exceeds(&unknown) && !unknown.exceeds(&unknown));
        let declared = BlastRadius::of(&delete(40), None);
        assert!(!approved.exceeds(&declared) && declared.exceeds(&approved));
    }
}
