//! What statements gave, as the API tells it.

use checkrein_api::{ExecutionView, StatementResult};
use checkrein_core::decision::Decision;
use checkrein_targets::ResultSet;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What the statements of an execution gave.
pub(super) struct Given {
    pub(super) results: Vec<ResultSet>,
    pub(super) several: bool,
}

/// An execution that did not take place.
pub(super) const fn nothing(decision: Decision) -> ExecutionView {
    ExecutionView {
        decision,
        executed: false,
        affected: 0,
        rows: None,
        columns: Vec::new(),
        results: Vec::new(),
    }
}

/// One that did, and changed `affected` records.
pub(super) fn view(decision: Decision, affected: u64, given: Given) -> ExecutionView {
    let results: Vec<StatementResult> = given.results.into_iter().map(result).collect();
    let last = results.iter().rev().find(|r| !r.columns.is_empty());
    let (rows, columns) = last.map_or_else(Default::default, |r| (r.rows.clone(), r.columns.clone()));
    ExecutionView {
        decision,
        executed: true,
        affected,
        rows: Some(rows),
        columns,
        results: if given.several { results } else { Vec::new() },
    }
}

fn result(set: ResultSet) -> StatementResult {
    let columns = distinct(set.columns);
    let row = |row: Vec<Value>| columns.iter().cloned().zip(row).collect::<Map<_, _>>();
    StatementResult { rows: set.rows.into_iter().map(row).collect(), affected: set.affected, columns }
}

/// Names by which no value hides another: `count`, `count_2`.
fn distinct(columns: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::with_capacity(columns.len());
    let all: HashSet<String> = columns.iter().cloned().collect();
    let mut named = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = column.clone();
        let mut number = 2_u64;
        while (name != column && all.contains(&name)) || !seen.insert(name.clone()) {
            name = format!("{column}_{number}");
            number += 1;
        }
        named.push(name);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_hides_another() {
        let of = |names: &[&str]| distinct(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(of(&["id", "count", "count", "count"]), ["id", "count", "count_2", "count_3"]);
        assert_eq!(of(&["a", "a", "a_2"]), ["a", "a_3", "a_2"]);
        assert_eq!(of(&["", ""]), ["", "_2"]);
    }
}
