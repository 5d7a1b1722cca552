//! Looking: reading, testing, sealing, and what became of a transaction.

use super::{
    Job,
    connect::{self, Clock, Fault},
    diff::{Found, Lookup},
    evidence::{Evidence, Votes},
    execute,
    load::Records,
    stream::Sink,
    walk::Walk,
    watch::{Mode, Watch},
};
use crate::{Error, Privilege, Report, ResultSet, Settled, Statement, snapshot::Snapshot};
use rusqlite::Connection;
use std::path::Path;

/// Runs a statement that may only read.
pub(super) fn read(job: &Job, statement: &Statement) -> Result<ResultSet, Fault> {
    let connection = job.open()?;
    connection.pragma_update(None, "query_only", true)?;
    let watch = Watch::start(&connection)?;
    let (mut prepared, _) = watch.prepare(&connection, Mode::Reading, &statement.sql)?;
    if !prepared.readonly() {
        return Err(Error::Unmeasurable("the statement does more than read".to_owned()).into());
    }
    execute::rows(&mut prepared, &statement.params, &job.config.limits, &job.clock)
}

/// What is there, and what is missing.
pub(super) fn test(job: &Job) -> Result<Report, Fault> {
    let path = connect::real_path(&job.path)?;
    let connection = connect::open(&job.config, &path, &job.clock)?;
    let _tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let text = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
    let (mode, encoding) = (text("journal_mode")?, text("encoding")?);
    let writes = match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) if !connection.is_readonly("main")? => None,
        Ok(()) => Some("the file or its folder cannot be written".to_owned()),
        Err(error) => Some(job.clock.explain(error.into()).to_string()),
    };
    let privilege = |needed_for: &str, fault: Option<String>, fine: String| {
        Privilege {
        needed_for: needed_for.to_owned(),
        ok: fault.is_none(),
        message: fault.map_or(fine, |why| {
            format!("{why}; give the account that Checkrein runs as read and write permission on {} and its folder", path.display())
        }),
    }
    };
    let exact = (encoding != "UTF-8").then(|| format!("texts are kept in {encoding}, not in UTF-8"));
    Ok(Report {
        system: format!("SQLite {} ({mode}, {encoding})", rusqlite::version()),
        privileges: vec![
            privilege("count", None, format!("{} can be read", path.display())),
            privilege(
                "execute",
                writes.clone().or_else(|| exact.clone()),
                "the write lock can be taken; foreign keys are enforced".to_owned(),
            ),
            privilege("snapshot", exact.clone(), "records can be read bit for bit".to_owned()),
            privilege("rollback", writes.or(exact), "records can be put back".to_owned()),
        ],
    })
}

/// SQLite has no accounts: what the file system must allow.
pub(super) fn grants(path: &Path, account: &str) -> String {
    let file = quoted(&path.to_string_lossy());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = quoted(&folder.to_string_lossy());
    let account = quoted(account);
    format!(
        "-- SQLite has no accounts. The account that Checkrein runs as needs, in the file system:\n\
         -- to read and write the file,\n\
         setfacl -m u:{account}:rw {file}\n\
         -- and to make the journal (-journal, -wal, -shm) beside it.\n\
         setfacl -m u:{account}:rwx {folder}\n\
         setfacl -d -m u:{account}:rw {folder}\n"
    )
}

/// As a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Reads the records of a snapshot as they stand now, as after-images.
pub(super) fn seal(
    connection: &Connection,
    snapshot: &Snapshot,
    mut sink: Sink,
    clock: &Clock,
) -> Result<(), Fault> {
    connection.execute_batch("BEGIN")?;
    let records = Records::load(connection, snapshot, clock)?;
    let (mut walk, mut found) = (Walk::new(&records), Found::default());
    for table in &records.tables {
        sink.table(&table.then.name, table.then.to_json()?)?;
        let mut lookup = Lookup::new(connection, &table.now)?;
        while let Some(batch) = walk.next(table)? {
            lookup.fetch(&batch, &table.then, &mut found)?;
            for (at, _) in batch.images().enumerate() {
                if let Some(now) = found.get(at) {
                    sink.record(None, Some(&table.project(now)?))?;
                }
            }
        }
    }
    sink.end(None, true)
}

/// Whether a transaction took place: what the records in its token and its snapshot say.
pub(super) fn resolve(
    connection: &Connection,
    token: &str,
    snapshot: &Snapshot,
    clock: &Clock,
) -> Result<Settled, Fault> {
    connection.execute_batch("BEGIN")?;
    let mut votes = Votes::default();
    let complete = Evidence::look(token, connection, &mut votes)?;
    if complete || votes.settle().is_some() {
        return Ok(votes.settle().unwrap_or_else(|| unknown(&votes)));
    }
    match Records::load(connection, snapshot, clock) {
        // A table that is gone says nothing either way.
        Err(Fault::Other(Error::Irreversible(why))) => return Ok(Settled::Unknown(why)),
        Err(fault) => return Err(fault),
        Ok(records) => {
            let (mut walk, mut found) = (Walk::new(&records), Found::default());
            for table in &records.tables {
                let mut lookup = Lookup::new(connection, &table.now)?;
                while let Some(batch) = walk.next(table)? {
                    lookup.fetch(&batch, &table.then, &mut found)?;
                    for (at, (before, after)) in batch.images().enumerate() {
                        let now = found.get(at).map(|row| table.project(row)).transpose()?;
                        votes.add(&before, &after, &now.as_deref());
                    }
                }
            }
        }
    }
    Ok(votes.settle().unwrap_or_else(|| unknown(&votes)))
}

fn unknown(votes: &Votes) -> Settled {
    if votes.seen == 0 {
        // It changed nothing, so it makes no difference.
        return Settled::Committed;
    }
    Settled::Unknown(
        "every record that it touched has been changed since by somebody else; compare them with the snapshot by hand"
            .to_owned(),
    )
}
