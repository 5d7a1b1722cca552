//! SQLite files.
//!
//! ```text
//! execute: write lock ─► observer sees the state before ─► run, watched ─► difference ─► Pending ─► commit
//! rollback: write lock ─► some records at a time: compare ─► restore ─► verify ─► Pending ─► commit
//! ```
//! The library is called on threads that may block; connections are made for each use and never shared.
//! The file must exist. Foreign keys are enforced for every statement of an agent, whatever the application
//! itself does.

mod connect;
mod count;
mod decode;
mod diff;
mod evidence;
mod execute;
mod follow;
mod integrity;
mod load;
mod look;
mod pending;
mod restore;
mod sample;
mod schema;
mod select;
mod sequence;
mod stream;
mod value;
mod walk;
mod watch;
mod write;

use crate::{
    Captured, Counted, Error, Kind, Pending, Place, Plan, Report, ResultSet, Sampled, Selection, Settled,
    Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use connect::{Clock, Fault};
use pending::{Held, Running};
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An SQLite file.
pub(crate) struct Sqlite {
    config: Arc<TargetConfig>,
    path: PathBuf,
    uses: Arc<Semaphore>,
    /// One writer at a time, in turn, rather than all of them knocking at the file's lock.
    writer: Arc<Semaphore>,
    running: Running,
}

/// What a piece of work on a thread needs.
struct Job {
    config: Arc<TargetConfig>,
    path: PathBuf,
    clock: Arc<Clock>,
}

impl Job {
    /// A connection to where the file really is.
    fn open(&self) -> Result<Connection, Fault> {
        connect::open(&self.config, &connect::real_path(&self.path)?, &self.clock)
    }
}

impl Sqlite {
    pub(crate) fn new(config: TargetConfig) -> Result<Self, Error> {
        let Place::Sqlite(path) = &config.place else {
            return Err(Error::Config(format!("{}: an SQLite target needs a path", config.name)));
        };
        if path.as_os_str().is_empty() {
            return Err(Error::Config(format!("{}: the path of the SQLite file is empty", config.name)));
        }
        let uses = usize::try_from(config.limits.connections).unwrap_or(usize::MAX).clamp(1, 1 << 16);
        Ok(Self {
            path: path.clone(),
            config: Arc::new(config),
            uses: Arc::new(Semaphore::new(uses)),
            writer: Arc::new(Semaphore::new(1)),
            running: Running::default(),
        })
    }

    fn job(&self, what: &'static str, limit: Duration) -> Job {
        let clock = Clock::new(what, limit, self.config.limits.lock);
        Job { config: Arc::clone(&self.config), path: self.path.clone(), clock }
    }

    /// A turn at the file, and at writing into it.
    async fn turn(&self, writes: bool) -> Result<Held, Error> {
        let limits = &self.config.limits;
        let used = turn(&self.uses, "waiting for a free connection", limits.connect).await?;
        let writes = match writes {
            true => Some(turn(&self.writer, "waiting for another action on the file", limits.lock).await?),
            false => None,
        };
        Ok(Held(used, writes))
    }

    /// Runs `work` on a thread; gives up when the caller does.
    async fn run<T: Send + 'static>(
        &self,
        job: Job,
        work: impl FnOnce(&Job) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let clock = Arc::clone(&job.clock);
        let guard = clock.guard();
        let done = tokio::task::spawn_blocking(move || work(&job)).await;
        guard.disarm();
        done.map_err(|e| Error::Internal(format!("the thread for SQLite: {e}")))?
            .map_err(|fault| clock.explain(fault))
    }

    /// Runs `work` on a thread while it fills a snapshot.
    async fn fill<T: Send + 'static>(
        &self,
        job: Job,
        out: &mut SnapshotWriter,
        work: impl FnOnce(&Job, stream::Sink) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let clock = Arc::clone(&job.clock);
        let guard = clock.guard();
        let (done, written) = stream::streaming(out, move |sink| work(&job, sink)).await?;
        guard.disarm();
        written?;
        done.map_err(|fault| clock.explain(fault))
    }
}

async fn turn(
    of: &Arc<Semaphore>,
    what: &'static str,
    limit: Duration,
) -> Result<OwnedSemaphorePermit, Error> {
    match tokio::time::timeout(limit, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Error::Internal("the target is closed".to_owned())),
        Err(_) => Err(Error::TimedOut { what, limit }),
    }
}

#[async_trait]
impl Target for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    async fn test(&self) -> Result<Report, Error> {
        let _held = self.turn(false).await?;
        let job = self.job("the test of the target", self.config.limits.connect);
        self.run(job, look::test).await
    }

    async fn grants(&self, account: &str) -> String {
        look::grants(&self.path, account)
    }

    async fn count(&self, what: &Selection) -> Result<Counted, Error> {
        let _held = self.turn(false).await?;
        let what = what.clone();
        let job = self.job("counting", self.config.limits.count);
        self.run(job, move |job| count::count(&job.open()?, &what, &job.clock)).await
    }

    async fn sample(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
        let _held = self.turn(false).await?;
        let what = what.clone();
        let job = self.job("reading a sample", self.config.limits.count);
        self.run(job, move |job| sample::sample(&job.open()?, &what, rows, &job.clock)).await
    }

    async fn read(&self, statement: &Statement) -> Result<ResultSet, Error> {
        let _held = self.turn(false).await?;
        let statement = statement.clone();
        let job = self.job("reading", self.config.limits.execute);
        self.run(job, move |job| look::read(job, &statement)).await
    }

    async fn execute(&self, statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        let held = self.turn(true).await?;
        let statements = statements.to_vec();
        let job = self.job("the execution", self.config.limits.execute);
        let run = move |job: &Job| execute::Open::run(&job.config, &job.path, &job.clock, &statements);
        let open = self.run(job, run).await?;
        Ok(self.running.pending(open, held, self.config.limits.snapshot))
    }

    async fn capture(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let _held = self.turn(false).await?;
        let what = what.clone();
        let job = self.job("taking the snapshot", self.config.limits.snapshot);
        let take = move |job: &Job, sink| count::capture(&job.open()?, &what, sink, &job.clock);
        let captured = self.fill(job, out, take).await?;
        out.foresees(&captured.affected);
        Ok(captured)
    }

    async fn seal(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
        let _held = self.turn(false).await?;
        let snapshot = snapshot.clone();
        let job = self.job("sealing the snapshot", self.config.limits.snapshot);
        self.fill(job, out, move |job, sink| look::seal(&job.open()?, &snapshot, sink, &job.clock)).await
    }

    fn decode(&self, table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
        decode::block(table, data)
    }

    async fn plan(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
        let _held = self.turn(false).await?;
        let (snapshot, options) = (snapshot.clone(), options.clone());
        let job = self.job("planning the rollback", self.config.limits.snapshot);
        let plan = move |job: &Job| {
            let connection = job.open()?;
            connection.execute_batch("BEGIN")?;
            restore::plan(&connection, &snapshot, &options, &job.clock)
        };
        self.run(job, plan).await
    }

    async fn rollback(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        let held = self.turn(true).await?;
        let (snapshot, options) = (snapshot.clone(), options.clone());
        let job = self.job("the rollback", self.config.limits.snapshot);
        let undo = move |job: &Job, sink| {
            let pair = connect::Pair::open(&job.config, &job.path, &job.clock, false)?;
            let connect::Pair { writer: connection, observer, file } = pair;
            let undone = restore::undo((&observer, &connection), &snapshot, &options, sink, &job.clock)?;
            let open = undone.done.map(|(measured, token)| {
                execute::Open::of_rollback((connection, file), Arc::clone(&job.clock), measured, token)
            });
            Ok((open, undone.plan, undone.nothing))
        };
        Ok(match self.fill(job, out, undo).await? {
            (Some(open), plan, _) => {
                Undo::Ready(plan, self.running.pending(open, held, self.config.limits.snapshot))
            }
            (None, plan, true) => Undo::Nothing(plan),
            (None, plan, false) => Undo::Conflicts(plan),
        })
    }

    async fn resolve(&self, token: &str, snapshot: &Snapshot) -> Result<Settled, Error> {
        if self.running.has(token) {
            return Ok(Settled::Running);
        }
        let _held = self.turn(false).await?;
        let (token, snapshot) = (token.to_owned(), snapshot.clone());
        let job = self.job("finding out what became of the action", self.config.limits.snapshot);
        self.run(job, move |job| look::resolve(&job.open()?, &token, &snapshot, &job.clock)).await
    }
}
