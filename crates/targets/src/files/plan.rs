//! What a rollback does, path by path: decided before anything is changed.

use super::{
    capture::Shared,
    images::Images,
    look::{Unkept, Witness, look},
    object::{Body, Look, Object, Record},
    path::RelPath,
    root::Root,
    walk::{Choice, Tally, Ways, paths},
    work::Stop,
};
use crate::{Conflict, Error, Plan, ResourcePlan, UndoOptions};
use checkrein_core::rollback::{ConflictKind, OnConflict, States, Step};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::Ordering,
};

/// One path with its states and what is done about it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: RelPath,
    pub(super) way: bool,
    pub(super) before: Option<Object>,
    /// The outer option: whether the snapshot is sealed.
    pub(super) after: Option<Option<Object>>,
    pub(super) now: Option<Object>,
    pub(super) witness: Option<Witness>,
    /// Never a conflict once the plan is made with skip or force.
    pub(super) step: Step,
    /// Why it was, or is, a conflict.
    pub(super) conflict: Option<ConflictKind>,
}

impl Item {
    fn states(&self) -> States<Look<'_>> {
        States {
            before: self.before.as_ref().map(Look),
            after: self.after.as_ref().map(|after| after.as_ref().map(Look)),
            now: self.now.as_ref().map(Look),
        }
    }

    /// What will stand there.
    pub(super) const fn result(&self) -> Option<&Object> {
        match self.step {
            Step::Keep | Step::Conflict(_) => self.now.as_ref(),
            Step::Insert | Step::Update => self.before.as_ref(),
            Step::Delete => None,
        }
    }

    fn leaves_folder(&self) -> bool {
        self.result().is_some_and(Object::is_folder)
    }

    /// Whether a folder that stays one is to have its old time back: not when somebody else worked in it.
    pub(super) fn time_is_ours(&self, force: bool) -> bool {
        let (Some(before), Some(now)) = (&self.before, &self.now) else { return self.before.is_some() };
        let after = self.after.as_ref().and_then(Option::as_ref);
        force
            || !now.is_folder()
            || now.meta.mtime == before.meta.mtime
            || after.is_some_and(|after| after.meta.mtime == now.meta.mtime)
    }

    fn settle(&mut self, kind: ConflictKind, how: OnConflict) {
        self.conflict = Some(kind);
        self.step = match how {
            OnConflict::Refuse => Step::Conflict(kind),
            OnConflict::Skip => Step::Keep,
            OnConflict::Force => self.states().overwrite(),
        };
    }
}

/// Compares the three states of every path and decides.
pub(super) fn plan(
    root: &Root,
    images: Images,
    options: &UndoOptions,
    stop: &Stop,
) -> Result<(Plan, Vec<Item>), Error> {
    let force = options.on_conflict == OnConflict::Force;
    let mut items = compare(root, images, options, stop)?;
    for item in items.values_mut().filter(|item| !item.way) {
        match item.states().step() {
            Step::Conflict(kind) => item.settle(kind, options.on_conflict),
            // Of a folder that is as it was, only the time may differ: because of what was made in it.
            Step::Keep
                if item.leaves_folder() && (force || item.after.is_some()) && item.time_is_ours(force) =>
            {
                let differs = item.before.as_ref().zip(item.now.as_ref());
                item.step = match differs {
                    Some((before, now)) if before.meta.mtime != now.meta.mtime => Step::Update,
                    _ => Step::Keep,
                };
            }
            step => item.step = step,
        }
    }
    ways(&mut items, options.on_conflict);
    folders_stay(&mut items, options.on_conflict);
    folders_needed(&mut items, options.on_conflict);
    let items: Vec<Item> = items.into_values().collect();
    if let Some(item) = items.iter().find(|item| {
        matches!(item.step, Step::Insert | Step::Update)
            && item.before.as_ref().is_some_and(|b| matches!(b.body, Body::Special(_)))
    }) {
        return Err(Error::Irreversible(format!(
            "{} was a pipe, socket or device, which cannot be made again; move it aside and use on_conflict \"skip\"",
            item.path.show()
        )));
    }
    Ok((summary(&items), items))
}

fn compare(
    root: &Root,
    images: Images,
    options: &UndoOptions,
    stop: &Stop,
) -> Result<BTreeMap<RelPath, Item>, Error> {
    let mut wanted = images.paths();
    let Images { choice, mut before, mut after } = images;
    let sealed = after.is_some();
    let mut found = BTreeMap::new();
    if !sealed {
        // Without after-images, whatever has appeared may be the action's or somebody else's.
        for path in paths(root, &choice, Ways::Lenient, stop)? {
            wanted.entry(path).or_insert(false);
        }
    }
    options.progress.total.store(wanted.len() as u64, Ordering::Relaxed);
    let mut todo: BTreeMap<RelPath, bool> = wanted;
    let mut shared = Shared::default();
    let mut witnesses = HashMap::new();
    let mut records = Vec::new();
    while !todo.is_empty() {
        let mut more = BTreeMap::new();
        for (path, way) in std::mem::take(&mut todo) {
            let seen = look(root, &path, stop, &mut Unkept)?;
            if let Some((object, witness)) = &seen {
                witnesses.insert(path.clone(), *witness);
                let goes = !before.get(&path).and_then(|r| r.object.as_ref()).is_some_and(Object::is_folder);
                if object.is_folder() && goes {
                    // It is to be removed, and with it whatever is in it by now.
                    let all = Choice::Paths(BTreeSet::from([path.clone()]));
                    let inside = paths(root, &all, Ways::Lenient, stop)?;
                    more.extend(inside.into_iter().map(|path| (path, false)));
                }
            }
            found.insert(path.clone(), ());
            records.extend(shared.hold(path, way, seen));
        }
        more.retain(|path, _| !found.contains_key(path));
        todo = more;
    }
    records.extend(shared.release());
    let items = records.into_iter().map(|record| {
        let Record { path, way, object: now } = record;
        let item = Item {
            way,
            before: before.remove(&path).and_then(|r| r.object),
            after: after.as_mut().map(|after| after.remove(&path).and_then(|r| r.object)),
            witness: witnesses.remove(&path),
            now,
            step: Step::Keep,
            conflict: None,
            path: path.clone(),
        };
        (path, item)
    });
    Ok(items.collect())
}

/// Folders on the way: made again where something below needs them; else only what the action itself did
/// to them is undone.
fn ways(items: &mut BTreeMap<RelPath, Item>, how: OnConflict) {
    let mut needed = BTreeSet::new();
    for item in items.values_mut().rev() {
        // A conflict too: whoever decides about it is to see what forcing would replace on the way.
        let back =
            matches!(item.step, Step::Insert | Step::Update | Step::Conflict(_)) && item.before.is_some();
        if back || needed.contains(&item.path) {
            needed.extend(item.path.parent());
        }
        if !item.way {
            continue;
        }
        let is_folder = item.now.as_ref().is_some_and(Object::is_folder);
        item.step = match item.states().step() {
            Step::Conflict(_) if is_folder => Step::Keep,
            _ if !is_folder && !needed.contains(&item.path) => Step::Keep,
            _ if item.now.is_none() => Step::Insert,
            Step::Conflict(kind) => {
                item.settle(kind, how);
                item.step
            }
            step => step,
        };
    }
}

/// A folder in which something stays cannot be removed or become something else.
fn folders_stay(items: &mut BTreeMap<RelPath, Item>, how: OnConflict) {
    let mut stays = BTreeSet::new();
    for item in items.values_mut().rev() {
        let was_folder = item.now.as_ref().is_some_and(Object::is_folder);
        if was_folder && !item.leaves_folder() && stays.contains(&item.path) && item.conflict.is_none() {
            // With force nothing stays, so this is refusing or skipping.
            item.settle(ConflictKind::Changed, how);
        }
        if item.result().is_some() && item.now.is_some() {
            stays.extend(item.path.parent());
        }
    }
}

/// What is put back needs a folder to be in.
fn folders_needed(items: &mut BTreeMap<RelPath, Item>, how: OnConflict) {
    let mut missing = BTreeSet::new();
    for item in items.values_mut() {
        let homeless = item.path.parent().is_some_and(|parent| missing.contains(&parent));
        if homeless && matches!(item.step, Step::Insert | Step::Update) {
            item.conflict = Some(ConflictKind::Replaced);
            item.step = match how {
                OnConflict::Refuse => Step::Conflict(ConflictKind::Replaced),
                OnConflict::Skip | OnConflict::Force => Step::Keep,
            };
        }
        if !item.leaves_folder() {
            missing.insert(item.path.clone());
        }
    }
}

fn summary(items: &[Item]) -> Plan {
    let mut plan = Plan::default();
    let mut tally = Tally::new();
    let mut elsewhere = 0_u64;
    for item in items {
        let is_folder = [&item.before, &item.now].iter().any(|o| o.as_ref().is_some_and(Object::is_folder));
        let kind = match item.step {
            _ if item.conflict.is_some() => 4,
            Step::Keep if item.way => continue,
            Step::Update if item.way && is_folder => continue,
            Step::Insert => 0,
            Step::Update => 1,
            Step::Delete => 2,
            Step::Keep => 3,
            Step::Conflict(_) => 4,
        };
        tally.add(&item.path, is_folder, kind);
        // What a person forces is both: a conflict, and work that is done.
        if item.conflict.is_some() {
            match item.step {
                Step::Insert => tally.add(&item.path, is_folder, 0),
                Step::Update => tally.add(&item.path, is_folder, 1),
                Step::Delete => tally.add(&item.path, is_folder, 2),
                Step::Keep | Step::Conflict(_) => {}
            }
        }
        if let Some(kind) = item.conflict {
            let conflict = conflict(item, kind);
            if plan.stands_against(&[Some(&serde_json::to_vec(&conflict).unwrap_or_default())]) {
                plan.conflicts.push(conflict);
            }
        }
        let has_more = |object: &Option<Object>| matches!(object, Some(Object { body: Body::File { elsewhere, .. }, .. }) if *elsewhere > 0);
        if item.step == Step::Update && (has_more(&item.before) || has_more(&item.now)) {
            elsewhere += 1;
        }
    }
    let (map, coarser) = tally.finish();
    for ((folder, kind), number) in map {
        let resource = folder.show();
        if plan.by_resource.last().is_none_or(|last: &ResourcePlan| last.resource != resource) {
            plan.by_resource.push(ResourcePlan { resource, ..ResourcePlan::default() });
        }
        if let Some(last) = plan.by_resource.last_mut() {
            match kind {
                0 => last.insert += number,
                1 => last.update += number,
                2 => last.delete += number,
                3 => last.keep += number,
                _ => last.conflicts += number,
            }
        }
    }
    if coarser {
        plan.notes.push("so many folders that the deepest are counted with the one above them".to_owned());
    }
    if elsewhere > 0 {
        plan.notes.push(format!(
            "{elsewhere} files have more names (hard links) outside of the snapshot; those names keep what they hold now"
        ));
    }
    plan
}

fn conflict(item: &Item, kind: ConflictKind) -> Conflict {
    let mut key = serde_json::Map::new();
    key.insert("path".to_owned(), item.path.json());
    let json = |object: Option<&Object>| object.map(Object::json);
    Conflict {
        resource: item.path.parent().unwrap_or_default().show(),
        key,
        kind,
        before: json(item.before.as_ref()),
        after: json(item.after.as_ref().and_then(Option::as_ref)),
        now: json(item.now.as_ref()),
    }
}
