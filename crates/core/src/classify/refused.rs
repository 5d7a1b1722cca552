//! Why a check cannot be classified.

use crate::{check::limits, name::NameError};

/// A check that is refused before it is judged. Names the field and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither form was sent.
    #[error("the check names no action; send `action` with `resource`, or `tool` with `arguments`")]
    NoForm,
    /// Fields of both forms were sent.
    #[error(
        "`{0}` does not go with `{1}`; send `action`, `resource` and `payload`, or `tool` and `arguments`"
    )]
    BothForms(&'static str, &'static str),
    /// An action on nothing.
    #[error("`resource` is missing; say what the action is done to, e.g. `production.users`")]
    NoResource,
    /// A name that is no name.
    #[error("`{field}`: {error}")]
    Name {
        /// Which field.
        field: &'static str,
        /// Why.
        error: NameError,
    },
    /// A table or host in the details that is no name.
    #[error("the details name something that cannot be written down: {0}; use an ordinary name")]
    InnerName(NameError),
    /// A text over its limit.
    #[error("`{field}` has {bytes} bytes, at most {limit} are accepted; shorten it")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many ids.
    #[error(
        "`record_ids` has {0} entries, at most {max} are accepted; split the action or send \
         `record_count`",
        max = limits::RECORD_IDS
    )]
    TooManyIds(usize),
    /// An id that identifies nothing.
    #[error("`record_ids[{0}]` is {1}; an id is a string or a number")]
    BadId(usize, &'static str),
    /// Records named in two ways.
    #[error("`where` does not go with `{0}`; name the records in one way")]
    NamedTwice(&'static str),
    /// A condition that selects nothing that could be counted.
    #[error("`where` has {0} columns, at most {max} are accepted", max = limits::WHERE_COLUMNS)]
    TooManyColumns(usize),
    /// More values than can be looked for.
    #[error("`where` has {0} values, at most {max} are accepted; split the action", max = limits::RECORD_IDS)]
    TooManyValues(usize),
    /// A value that no column has.
    #[error("`where.{column}` is {found}; send a text, a number, true, false, null, or a list of those")]
    BadValue {
        /// The column, as it was named.
        column: String,
        /// What was sent.
        found: &'static str,
    },
    /// A count that counts nothing.
    #[error("`{field}` is {found}; send a whole number from 0 to 18446744073709551615, or leave it out")]
    BadCount {
        /// Which field.
        field: &'static str,
        /// What was sent.
        found: String,
    },
    /// Arguments without names.
    #[error("`arguments` is {0}; send an object, or leave it out")]
    BadArguments(&'static str),
    /// More tables than can be judged.
    #[error("the statement touches more than {0} tables; split it")]
    TooManyTables(usize),
    /// An operator's rule builds the resource from an argument that is missing.
    #[error(
        "the catalogue's rule for `{tool}` needs the argument `{argument}` as a string or number; send it, \
         or change the rule's `resource`"
    )]
    TemplateArgument {
        /// The tool as it was named.
        tool: String,
        /// The placeholder.
        argument: String,
    },
    /// An operator's rule builds the resource from an argument that is quoted.
    #[error(
        "the catalogue's rule for `{tool}` makes its resource from the argument `{argument}`, which holds quotes, \
         brackets or several names; send the plain name"
    )]
    QuotedArgument {
        /// The tool as it was named.
        tool: String,
        /// The placeholder.
        argument: String,
    },
}
