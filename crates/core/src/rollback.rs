//! What a rollback does to one record: a pure decision, alike for every system.
//!
//! A record has up to three states: `before` the action (kept in the snapshot), `after` it (kept once the
//! snapshot is sealed) and `now`. Absence is a state too. The rollback wants `before` back, and may take
//! it only where `now` is still `after`: everything else is somebody's later work.

use serde::{Deserialize, Serialize};

/// What to do about records that somebody changed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Change nothing at all, and show the conflicts.
    #[default]
    Refuse,
    /// Leave the records in conflict as they are, restore the others.
    Skip,
    /// Overwrite: a person has seen the difference.
    Force,
}

impl OnConflict {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Skip => "skip",
            Self::Force => "force",
        }
    }
}

/// Why a record cannot be restored without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// It is there and is not what the action left.
    Changed,
    /// The action left it, and it is gone.
    Removed,
    /// The action removed it, and something else stands in its place.
    Replaced,
    /// The snapshot is not sealed: whether the difference is the agent's or somebody else's cannot be told.
    Unsealed,
}

/// What a rollback does to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is already what it was.
    Keep,
    /// Put it back: it is absent now.
    Insert,
    /// Give it back its old content.
    Update,
    /// The action made it: remove it.
    Delete,
    /// Somebody has worked on it since.
    Conflict(ConflictKind),
}

/// The states of one record; `None` is absence. `T` is its content as the system compares it.
#[derive(Clone, Copy, Debug)]
pub struct States<T> {
    /// Before the action.
    pub before: Option<T>,
    /// After it; `None` in the outer option: not recorded (the snapshot is not sealed).
    pub after: Option<Option<T>>,
    /// Now.
    pub now: Option<T>,
}

impl<T: PartialEq> States<T> {
    /// What a rollback that refuses to do harm does to this record.
    pub fn step(&self) -> Step {
        if self.now == self.before {
            return Step::Keep;
        }
        match &self.after {
            Some(after) if *after == self.now => self.overwrite(),
            None => Step::Conflict(ConflictKind::Unsealed),
            Some(after) => Step::Conflict(match (after, &self.now) {
                (Some(_), None) => ConflictKind::Removed,
                (None, _) => ConflictKind::Replaced,
                (Some(_), Some(_)) => ConflictKind::Changed,
            }),
        }
    }

    /// What brings `before` back, whoever made the difference.
    pub fn overwrite(&self) -> Step {
        match (&self.before, &self.now) {
            (before, now) if before == now => Step::Keep,
            (Some(_), None) => Step::Insert,
            (None, _) => Step::Delete,
            (Some(_), Some(_)) => Step::Update,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(before: Option<u8>, after: Option<Option<u8>>, now: Option<u8>) -> Step {
        States { before, after, now }.step()
    }

    #[test]
    fn undoes_only_what_still_stands_as_the_action_left_it() {
        assert_eq!(step(Some(1), Some(Some(2)), Some(2)), Step::Update);
        assert_eq!(step(Some(1), Some(None), None), Step::Insert);
        assert_eq!(step(None, Some(Some(2)), Some(2)), Step::Delete);
        assert_eq!(step(Some(1), Some(Some(2)), Some(1)), Step::Keep, "somebody undid it already");
        assert_eq!(step(Some(1), Some(Some(2)), Some(3)), Step::Conflict(ConflictKind::Changed));
        assert_eq!(step(Some(1), Some(Some(2)), None), Step::Conflict(ConflictKind::Removed));
        assert_eq!(step(Some(1), Some(None), Some(3)), Step::Conflict(ConflictKind::Replaced));
        assert_eq!(step(None, Some(Some(2)), None), Step::Keep);
    }

    #[test]
    fn what_was_never_sealed_is_nobody_elses_to_overwrite() {
        assert_eq!(step(Some(1), None, Some(2)), Step::Conflict(ConflictKind::Unsealed));
        assert_eq!(step(Some(1), None, Some(1)), Step::Keep);
        let states = States { before: Some(1), after: None, now: Some(2) };
        assert_eq!(states.overwrite(), Step::Update);
    }
}
