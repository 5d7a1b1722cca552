//! Which records are meant.

use serde_json::{Map, Value};

/// One SQL statement and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Exactly one statement; a text that holds several is refused.
    pub sql: String,
    /// For its placeholders, in the system's own style: `$1` (PostgreSQL), `?` (MySQL, SQLite; SQLite takes
    /// `$1` too). Numbers, texts, booleans, null; lists and objects where the system has a type for them.
    pub params: Vec<Value>,
}

/// Which records are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Those that these statements would change, one after the other.
    Statements(Vec<Statement>),
    /// Those with these values of the primary key. A key of several columns is a list in the key's order,
    /// or an object by column. In `files`: paths below the resource, or below the root.
    Records {
        /// Path of the resource within the target: `public.users`, `users`, `invoices/2026`.
        resource: String,
        /// The keys.
        ids: Vec<Value>,
        /// Whether they would be deleted (cascades count) or updated (only what refers to changed keys
        /// would; an update of other columns touches the records alone).
        delete: bool,
    },
    /// Those of which every named column has the given value (or one of the values of a list; `null` is
    /// IS NULL). Empty: all of them. In `files`: `{"glob": "**/*.csv"}`.
    Where {
        /// Path of the resource within the target.
        resource: String,
        /// Column to value.
        filter: Map<String, Value>,
        /// As in `Records`.
        delete: bool,
    },
}
