//! Which table it is. One that was made anew under an old name has records of its own.
//!
//! InnoDB numbers its tables, and never gives a number again. A table that is rebuilt gets a new one as well, so that a
//! different number says only that nobody can tell.

use super::{
    connect::Session,
    schema::{get, literal, quote},
};
use crate::Error;
use serde_json::{Map, Value as Json};

/// The numbers of tables with those of their partitions, by the name in SQL.
pub(super) async fn of(
    session: &mut Session,
    tables: impl Iterator<Item = &(String, String)> + Send,
) -> Result<Map<String, Json>, Error> {
    let of = if session.files { "INNODB_SYS_TABLES" } else { "INNODB_TABLES" };
    let mut found = Map::new();
    for (schema, name) in tables {
        let file = |value: &str| {
            format!("CONVERT(CAST(CONVERT({} USING filename) AS BINARY) USING utf8mb4)", literal(value))
        };
        // As InnoDB writes it: as in the names of files, but for MySQL from 8 on. There, what the server puts together
        // would be of another collation than the column.
        let (whole, part) = if session.files {
            let whole = format!("CONCAT({}, '/', {})", file(schema), file(name));
            (whole.clone(), format!("CONCAT({whole}, '#P#')"))
        } else {
            let whole = format!("{schema}/{name}");
            (literal(&whole), literal(&format!("{whole}#p#")))
        };
        let sql = format!(
            "SELECT COALESCE(GROUP_CONCAT(TABLE_ID ORDER BY TABLE_ID), '') FROM information_schema.{of} \
             WHERE NAME = {whole} OR LEFT(NAME, CHAR_LENGTH({part})) = {part}"
        );
        let sets = session.several(&sql).await?;
        let Some(row) = sets.first().and_then(|rows| rows.first()) else { continue };
        let numbers: String = get(row, 0)?;
        if !numbers.is_empty() {
            found.insert(format!("{}.{}", quote(schema), quote(name)), numbers.into());
        }
    }
    Ok(found)
}
