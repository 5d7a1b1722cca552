//! Records that an action was to change and that are gone afterwards.
//!
//! A snapshot that is taken before the action knows records by their keys. One that is not there any more once the action
//! has run was removed, or has another key now; put back, it would be there twice. Where the action was to change records
//! and not to remove any, that is for a person to decide.

use crate::{Affected, How};
use checkrein_core::rollback::{ConflictKind, States, Step};
use std::collections::BTreeMap;

/// The resources of which all records were to be changed.
pub(crate) fn resources(affected: &[Affected]) -> Vec<String> {
    let mut all = BTreeMap::new();
    for one in affected {
        *all.entry(&one.resource).or_insert(true) &= matches!(one.how, How::Update | How::Unlink);
    }
    all.into_iter().filter(|(_, stay)| *stay).map(|(resource, _)| resource.clone()).collect()
}

/// What a rollback that refuses to do harm does to a record, which `stays` if it was only to be changed.
pub(crate) fn step<T: PartialEq>(states: &States<T>, stays: bool) -> Step {
    match (states.step(), &states.after) {
        (Step::Insert, Some(None)) if stays => Step::Conflict(ConflictKind::Removed),
        (step, _) => step,
    }
}

/// What a person should know of such records.
pub(crate) fn note(resource: &str) -> String {
    format!(
        "records of {resource} that the action was to change are not there under their keys any more: it has removed them or changed \
         the keys; where it changed them, look for those records and remove them, or they will be there twice"
    )
}

/// Why the records of a statement that changes keys cannot be kept before it runs.
pub(crate) fn changes_key(resource: &str, column: &str) -> String {
    format!(
        "the statement assigns {column}, which is part of the key of {resource}: its records could not be recognised again; \
         use an execution, which sees both sides"
    )
}

/// What a person should know of a table without a key, of which some records are in conflict.
pub(crate) fn left_alone(resource: &str) -> String {
    format!("{resource} has no key, so with records in conflict none of its records is restored")
}
