//! The other spellings of a table's name.
//!
//! `shop.users` and `shop.public.users` are most often one table, since databases look an unqualified name up
//! in their default schema. What the search path really is nobody here knows. So what stops an action takes
//! both spellings for one table, and what lets it pass takes only the one that was written.

use smallvec::SmallVec;

/// What databases look into where no schema is named: PostgreSQL, SQL Server, SQLite.
pub(super) const DEFAULT_SCHEMAS: [&str; 3] = ["public", "dbo", "main"];

/// Which spellings of a resource count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The one that was written: for what lets an action pass.
    Written,
    /// With and without a default schema: for what stops one.
    Any,
}

impl Spelling {
    /// Within a `not`, what is seen too much lets an action pass.
    pub(super) const fn negated(self) -> Self {
        match self {
            Self::Written => Self::Any,
            Self::Any => Self::Written,
        }
    }
}

/// A resource's path, as far as schemas go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path<'a> {
    /// `head` ends in a dot or is empty; between it and the table stood a default schema.
    Qualified { head: &'a str, table: &'a str },
    /// There stood none.
    Bare { head: &'a str, table: &'a str },
}

impl<'a> Path<'a> {
    /// None for a URL.
    pub(super) fn of(resource: &'a str) -> Option<Self> {
        if resource.contains("://") {
            return None;
        }
        let cut = resource.rfind('.').map_or(0, |at| at + 1);
        let (before, table) = resource.split_at_checked(cut)?;
        if table.is_empty() {
            return None;
        }
        let schemas = DEFAULT_SCHEMAS.iter();
        let head = schemas.filter_map(|s| before.strip_suffix('.')?.strip_suffix(s)).find(|head| ends(head));
        Some(match head {
            Some(head) => Self::Qualified { head, table },
            None => Self::Bare { head: before, table },
        })
    }

    /// Every other spelling.
    pub(super) fn others(self) -> SmallVec<[String; 3]> {
        match self {
            Self::Qualified { head, table } => [format!("{head}{table}")].into_iter().collect(),
            Self::Bare { .. } => DEFAULT_SCHEMAS.iter().map(|schema| self.in_schema(schema)).collect(),
        }
    }

    /// A bare table with its schema spelled out.
    pub(super) fn in_schema(self, schema: &str) -> String {
        let (Self::Qualified { head, table } | Self::Bare { head, table }) = self;
        format!("{head}{schema}.{table}")
    }
}

/// Which default schema the last segment but one of `path` names, as a place in [`DEFAULT_SCHEMAS`].
pub(super) fn named_in(path: &str) -> Option<usize> {
    let before = path.rsplit_once('.')?.0;
    let segment = before.rsplit('.').next()?;
    DEFAULT_SCHEMAS.iter().position(|schema| *schema == segment)
}

fn ends(head: &str) -> bool {
    head.is_empty() || head.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_schema_is_put_in_or_left_out() {
        let others = |text: &str| Path::of(text).map(|p| p.others().into_vec()).unwrap_or_default();
        assert_eq!(others("shop.users"), ["shop.public.users", "shop.dbo.users", "shop.main.users"]);
        assert_eq!(others("users"), ["public.users", "dbo.users", "main.users"]);
        assert_eq!(others("shop.public.users"), ["shop.users"]);
        assert_eq!(others("main.users"), ["users"]);
        assert_eq!(others("republic.users").len(), 3, "another schema");
        assert_eq!(others("https://public.example/a.b"), [""; 0]);
        assert_eq!(others("shop."), [""; 0]);
        assert_eq!(others(""), [""; 0]);
    }
}
