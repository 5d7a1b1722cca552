//! The store as the server uses it.

use crate::{
    baselines::Baselines,
    checkpoint::Checkpointer,
    error::{AppendError, StoreError},
    folder::Folder,
    head::Head,
    journal::{Frame, Journal},
    postman::Postman,
    queue::{self, Queue},
    read::{
        self, ApprovalFilter, ApprovalPage, BreakerRow, CheckFilter, CheckPage, CheckRow, ChecksByHour,
        EntryFilter,
    },
    schema,
    writer::{self, Call, Limits, Rejection, Request, Writer},
};
use checkrein_core::{
    approval::Approval,
    chain::{Hash, Walk},
    event::{Checked, Entry, Event},
    fingerprint::Fingerprint,
    key::KeyRecord,
    name::Pattern,
    time::Timestamp,
};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs::OpenOptions,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, oneshot, watch};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder. Created when it is not there.
    pub dir: PathBuf,
    /// How long [`Store::append`] waits before it gives up.
    pub timeout: Duration,
    /// Reads that may run at once, each on a connection of its own. At least 1.
    pub readers: usize,
    /// Calls of [`Store::append`] that may wait for the writer. At least 1.
    pub queue: usize,
    /// Calls that share one transaction and sync, at most. At least 1.
    pub batch_calls: usize,
    /// Bytes of bodies in one transaction; the call that goes over it is the last one.
    pub batch_bytes: usize,
    /// The most that each of the two files of the journal may hold, in bytes; they grow with use. When one is
    /// full, the database's write-ahead log is merged.
    pub wal_bytes: u64,
}

impl Options {
    /// The defaults, for the data folder `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            timeout: Duration::from_secs(5),
            readers: 4,
            queue: 4096,
            batch_calls: 512,
            batch_bytes: 4 * 1024 * 1024,
            wal_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Where an event came to stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The entry's number.
    pub seq: u64,
    /// Its time: the one that was given, or that of the entry before it when the clock went back.
    pub at: Timestamp,
    /// Its hash.
    pub hash: Hash,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The last entry removed; 0 when nothing was.
    pub through: u64,
    /// How many entries were removed.
    pub removed: u64,
    pub(crate) done: bool,
}

/// The durable state of a server. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writer: Arc<Queue<Request>>,
    head: Head,
    timeout: Duration,
    folder: Folder,
    /// Idle connections for reading; `permits` says how many more may be made.
    readers: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Drop for Inner {
    /// Nobody is left to ask: the writer ends.
    fn drop(&mut self) {
        self.writer.close();
    }
}

/// Tells those who wait that the writer is gone, however it went.
struct Gone(Arc<Queue<Request>>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Store {
    /// Opens the store in `dir`, and creates it where there is none. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When another server has the folder, when it cannot be used, when a newer version wrote it, when it is
    /// damaged, and when the log does not end where it should.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let Options { dir, timeout, readers, queue, batch_calls, batch_bytes, wal_bytes } = options;
        let folder = Folder::new(&dir);
        let mut lock = folder.claim()?;
        let db = schema::open_writer(&folder)?;
        let unusable =
            |e: std::io::Error| StoreError::Unusable { path: folder.path.clone(), cause: e.to_string() };
        let wal = OpenOptions::new().write(true).create(true).truncate(false).open(&folder.wal);
        let wal = wal.map_err(unusable)?;
        let last = writer::last(&db, &wal, &folder)?;
        let journal = Journal::open(&folder, wal_bytes).map_err(unusable)?;
        folder.sync_names()?;
        lock.sign().map_err(unusable)?;
        let requests = Arc::new(Queue::new(queue));
        let head = Head::new(last.0);
        let writer = Writer {
            checkpointer: Checkpointer::start(
                &folder,
                wal.try_clone().map_err(unusable)?,
                journal.length(),
                head.clone(),
                Arc::clone(&requests),
            )?,
            folder: folder.clone(),
            db,
            wal,
            journal,
            frame: Frame::default(),
            last,
            open: None,
            behind: false,
            head: head.clone(),
            limits: Limits { calls: batch_calls.max(1), bytes: batch_bytes },
            postman: Postman::start(),
            lock,
        };
        let gone = Gone(Arc::clone(&requests));
        std::thread::Builder::new()
            .name("checkrein-writer".into())
            .spawn(move || writer.run(&gone.0))
            .map_err(unusable)?;
        Ok(Self(Arc::new(Inner {
            writer: requests,
            head,
            timeout,
            folder,
            readers: Mutex::default(),
            permits: Semaphore::new(readers.max(1)),
        })))
    }

    /// Puts `events` on record, all or none, as of `at`. They are on the disk when this returns.
    ///
    /// # Errors
    /// See [`AppendError`]. After [`AppendError::Unknown`] the events may or may not be on record; after
    /// every other error they are not. Dropping the future leaves the same doubt.
    pub async fn append(&self, events: Vec<Event>, at: Timestamp) -> Result<Vec<Stamp>, AppendError> {
        let events = events
            .into_iter()
            .map(|event| event.body().map(|body| (event, body)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| AppendError::Invalid(e.to_string()))?;
        self.append_written(events, at).await.map(|(stamps, _)| stamps)
    }

    /// The same with events that the caller has written, each with its [`Event::body`]. They come back with
    /// their stamps.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn append_written(
        &self,
        events: Vec<(Event, String)>,
        at: Timestamp,
    ) -> Result<(Vec<Stamp>, Vec<(Event, String)>), AppendError> {
        if events.is_empty() {
            return Err(AppendError::Invalid("no event was given".into()));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Append(Call { events, at, reply })).await?;
        let (answer, spent) = match tokio::time::timeout(self.0.timeout, answer).await {
            Ok(Ok(answered)) => answered,
            // Too late, or the writer died with the call in its hands.
            Ok(Err(_)) | Err(_) => return Err(AppendError::Unknown(self.0.timeout)),
        };
        match answer {
            Ok(stamps) => Ok((stamps, spent)),
            Err(Rejection::Error(error)) => Err(error),
            Err(Rejection::Duplicate(body)) => Err(serde_json::from_str(&body).map_or_else(
                |e| AppendError::Io(format!("the check that is on record cannot be understood: {e}")),
                AppendError::Duplicate,
            )),
        }
    }

    /// Whether things can be recorded, as far as is known: the last attempt went well, or is ten seconds
    /// past. After that, only a new attempt can tell.
    ///
    /// # Errors
    /// Why the last attempt failed.
    pub fn writable(&self) -> Result<(), AppendError> {
        if self.0.writer.is_closed() {
            return Err(AppendError::Closed);
        }
        self.0.head.failure(Duration::from_secs(10)).map_or(Ok(()), Err)
    }

    pub(crate) async fn send(&self, request: Request) -> Result<(), AppendError> {
        self.0.writer.push(request, self.0.timeout).await.map_err(|refused| match refused {
            queue::Refused::Full => AppendError::Busy(self.0.timeout),
            queue::Refused::Closed => AppendError::Closed,
        })
    }

    /// Removes the oldest entries, those before `older_than`, as far as no open approval, snapshot or
    /// unsettled execution or rollback refers to them.
    /// What remains can still be verified.
    ///
    /// # Errors
    /// As [`Store::append`]. What was removed before the error stays removed.
    pub async fn prune(&self, older_than: Timestamp) -> Result<Pruned, AppendError> {
        let mut total = Pruned { done: true, ..Pruned::default() };
        loop {
            let (reply, answer) = oneshot::channel();
            self.send(Request::Prune { older_than, at: now(), reply }).await?;
            match answer.await.map_err(|_| AppendError::Closed)?? {
                None => return Ok(total),
                Some(step) => {
                    total.through = step.through;
                    total.removed += step.removed;
                    if step.done {
                        return Ok(total);
                    }
                }
            }
        }
    }

    /// The last entry on record.
    pub fn head(&self) -> Walk {
        self.0.head.get()
    }

    /// The number of the last entry on record, as it grows.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }

    /// The number of the last entry that [`Store::signals_after`] and [`Store::entries_behind`] can give, as it
    /// grows.
    pub fn subscribe_shown(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe_shown()
    }

    /// Records what was handed over, merges the write-ahead log and releases the folder. The store, all its
    /// clones included, answers nothing afterwards.
    pub async fn close(&self) {
        self.0.permits.close();
        self.idle().clear();
        let (done, closed) = oneshot::channel();
        if self.0.writer.push(Request::Close(done), Duration::from_secs(3600)).await.is_ok() {
            // An error means that the writer is gone, which is what is wanted.
            let _gone = closed.await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until readers see everything that is on record now.
    async fn shown(&self) -> Result<(), StoreError> {
        if self.0.head.shown() >= self.0.head.get().seq {
            return Ok(());
        }
        let (reply, shown) = oneshot::channel();
        let late = |_| StoreError::Late(self.0.timeout);
        match self.0.writer.push(Request::Show(reply), self.0.timeout).await {
            Err(queue::Refused::Full) => return Err(StoreError::Late(self.0.timeout)),
            // The writer shows everything before it ends.
            Err(queue::Refused::Closed) => return Ok(()),
            Ok(()) => {}
        }
        match tokio::time::timeout(self.0.timeout, shown).await.map_err(late)? {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Behind(Box::new(error))),
        }
    }

    /// Runs `read` on a connection of its own, away from the async threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shown().await?;
        self.read_behind(read).await
    }

    /// The same, of what the database shows anyway: asks nothing of the writer.
    pub(crate) async fn read_behind<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = self.0.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let idle = self.idle().pop();
        let store = self.clone();
        tokio::task::spawn_blocking(move || {
            let db = match idle {
                Some(db) => db,
                None => schema::open_reader(&store.0.folder)?,
            };
            let result = read(&db);
            let mut idle = store.idle();
            if !store.0.permits.is_closed() {
                idle.push(db);
            }
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// The store as the command line reads it, to verify it while it is written.
    ///
    /// # Errors
    /// When it cannot be opened a second time.
    pub fn reader(&self) -> Result<crate::Reader, StoreError> {
        crate::Reader::open(&self.0.folder.path)
    }

    /// The check `id` with what became of it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn check(&self, id: &str) -> Result<Option<CheckRow>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| read::check(db, &id)).await
    }

    /// Checks, newest first: those before the entry `before`, or the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn checks(
        &self,
        filter: CheckFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<CheckPage, StoreError> {
        self.read(move |db| read::checks(db, &filter, before, limit)).await
    }

    /// The check in which the key `key_id` used `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn by_idempotency_key(&self, key_id: &str, key: &str) -> Result<Option<Checked>, StoreError> {
        let (key_id, key) = (key_id.to_owned(), key.to_owned());
        self.read(move |db| read::by_idempotency_key(db, &key_id, &key)).await
    }

    /// The idempotency keys of the last `limit` checks, as (key id, idempotency key), newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recent_idempotency_keys(&self, limit: usize) -> Result<Vec<(String, String)>, StoreError> {
        self.read(move |db| read::recent_idempotency_keys(db, limit)).await
    }

    /// At most `limit` entries after `after`, in order; fewer only at the end of the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn entries(
        &self,
        after: u64,
        limit: usize,
        filter: EntryFilter,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(move |db| read::entries(db, after, limit, &filter)).await
    }

    /// At most `limit` entries before `before`, newest first. Of `filter` only the kinds are looked at.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn entries_before(
        &self,
        before: u64,
        limit: usize,
        filter: EntryFilter,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(move |db| read::entries_before(db, before, limit, &filter)).await
    }

    /// At most `limit` entries about `subject` (an id, or a policy's name), oldest first, without a check itself.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn entries_about(&self, subject: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let subject = subject.to_owned();
        self.read(move |db| read::entries_about(db, &subject, limit)).await
    }

    /// The entry `seq`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn entry(&self, seq: u64) -> Result<Option<Entry>, StoreError> {
        self.read(move |db| read::entry(db, seq)).await
    }

    /// The policies that came through the API and are in force, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn policies(&self) -> Result<Vec<Value>, StoreError> {
        self.read(read::policies).await
    }

    /// Where breakers stand that ever left `closed`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn breakers(&self) -> Result<Vec<BreakerRow>, StoreError> {
        self.read(read::breakers).await
    }

    /// How many checks of the agents that fit `agent` each hour has from `since` on. Looks at the newest `most` entries of the
    /// log, whosever they are; hours that begin before those are incomplete.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn checks_by_hour(
        &self,
        agent: &Pattern,
        since: Timestamp,
        most: u64,
    ) -> Result<ChecksByHour, StoreError> {
        let agent = agent.clone();
        self.read(move |db| read::checks_by_hour(db, &agent, since, most)).await
    }

    /// What agents normally do, in a file of its own.
    ///
    /// # Errors
    /// When it cannot be opened, or is damaged.
    pub fn baselines(&self) -> Result<Baselines, StoreError> {
        Baselines::open(&self.0.folder)
    }

    /// The keys that are not revoked.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.read(read::keys).await
    }

    /// The approval `id`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| read::approval(db, &id)).await
    }

    /// Approvals, newest first: those asked for before the entry `before`, or the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn approvals(
        &self,
        filter: ApprovalFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ApprovalPage, StoreError> {
        self.read(move |db| read::approvals(db, &filter, before, limit)).await
    }

    /// The newest approval of exactly this action of which something can still come.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_approval(&self, fingerprint: &Fingerprint) -> Result<Option<Approval>, StoreError> {
        let fingerprint = fingerprint.clone();
        self.read(move |db| read::open_approval(db, &fingerprint)).await
    }

    /// At most `limit` open approvals whose time is over at `now`, the longest overdue first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_approvals(&self, now: Timestamp, limit: usize) -> Result<Vec<Approval>, StoreError> {
        self.read(move |db| read::due_approvals(db, now, limit)).await
    }
}

fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
