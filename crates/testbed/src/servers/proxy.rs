//! A way to a database on which a COMMIT, or the answer to it, can get stuck, as happens on networks.
//!
//! What is stuck stays so until the test says how it goes on: nothing depends on how fast anything is.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Error;

/// How long a COMMIT is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a COMMIT gets stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// On its way to the database, which has not heard of it.
    Before,
    /// The database has done it, and its answer is on the way.
    After,
}

impl Stuck {
    /// Both places.
    pub const BOTH: [Self; 2] = [Self::Before, Self::After];
}

/// The way to a database on 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: u16,
    state: Mutex<State>,
    changed: Condvar,
    blocked: AtomicBool,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Where the next COMMIT gets stuck.
    wanted: Option<Stuck>,
    held: Option<Held>,
    /// Whether it is stuck where it was to be.
    stuck: bool,
    /// Both ends of everything that is or was connected.
    ends: Vec<TcpStream>,
}

/// A connection on which nothing moves any more.
#[derive(Debug)]
struct Held {
    client: TcpStream,
    database: TcpStream,
    /// What the database has not been told.
    request: Vec<u8>,
    /// What the client has not been told.
    answer: Vec<u8>,
    /// Taken back when it moves again.
    stuck: Arc<AtomicBool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this COMMIT gets stuck.
    fn wanted(&self) -> Option<Stuck> {
        self.state().wanted.take()
    }

    /// What breaks now.
    fn broken(&self, blocked: bool) -> Vec<TcpStream> {
        if blocked { std::mem::take(&mut self.state().ends) } else { Vec::new() }
    }

    fn stuck(&self) {
        self.state().stuck = true;
        self.changed.notify_all();
    }
}

impl Proxy {
    /// A way to the database on port `database`.
    ///
    /// # Errors
    /// If no port is to be had.
    pub fn to(database: u16) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            database,
            state: Mutex::default(),
            changed: Condvar::new(),
            blocked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let (Ok(client), false) = (client, accepting.blocked.load(Ordering::SeqCst)) {
                    let shared = Arc::clone(&accepting);
                    thread::spawn(move || relay(&shared, client));
                }
            }
        });
        Ok(Self { port, shared })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The next COMMIT that passes gets stuck.
    pub fn catch(&self, commit: Stuck) {
        let mut state = self.shared.state();
        state.wanted = Some(commit);
        state.stuck = false;
    }

    /// Waits until it is stuck. Whether it is, within a minute.
    pub fn is_stuck(&self) -> bool {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.stuck);
        waited.unwrap_or_else(PoisonError::into_inner).0.stuck
    }

    /// Whether it is stuck already.
    pub fn is_stuck_now(&self) -> bool {
        self.shared.state().stuck
    }

    /// The connection that is stuck breaks, at both ends.
    pub fn cut(&self) {
        if let Some(held) = self.shared.state().held.take() {
            let _gone = (held.client.shutdown(Shutdown::Both), held.database.shutdown(Shutdown::Both));
        }
    }

    /// What is stuck arrives after all, whether or not anybody still waits for the answer.
    ///
    /// # Errors
    /// If the database is gone.
    pub fn deliver(&self) -> Result<(), Error> {
        if let Some(mut held) = self.shared.state().held.take() {
            held.stuck.store(false, Ordering::SeqCst);
            let _gone = held.client.write_all(&held.answer);
            held.database.write_all(&held.request)?;
        }
        Ok(())
    }

    /// Whether the database cannot be reached. What is connected breaks.
    pub fn block(&self, blocked: bool) {
        self.shared.blocked.store(blocked, Ordering::SeqCst);
        for end in self.shared.broken(blocked) {
            let _gone = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Carries what both say, until one of them is gone.
fn relay(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(database) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.database)) else { return };
    let stuck = Arc::new(AtomicBool::new(false));
    if let (Ok(client), Ok(database)) = (client.try_clone(), database.try_clone()) {
        shared.state().ends.extend([&client, &database].into_iter().filter_map(|end| end.try_clone().ok()));
        let (shared, stuck) = (Arc::clone(shared), Arc::clone(&stuck));
        thread::spawn(move || answers(&shared, &stuck, client, database));
    }
    requests(shared, &stuck, client, database);
}

fn requests(shared: &Shared, stuck: &Arc<AtomicBool>, mut client: TcpStream, mut database: TcpStream) {
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let bytes = buffer.get(..read).unwrap_or_default();
        if is_commit(bytes)
            && let Some(wanted) = shared.wanted()
            && let (Ok(client), Ok(to)) = (client.try_clone(), database.try_clone())
        {
            stuck.store(true, Ordering::SeqCst);
            let request = if wanted == Stuck::Before { bytes.to_vec() } else { Vec::new() };
            let (answer, stuck) = (Vec::new(), Arc::clone(stuck));
            shared.state().held = Some(Held { client, database: to, request, answer, stuck });
            if wanted == Stuck::Before {
                shared.stuck();
                continue;
            }
        }
        if database.write_all(bytes).is_err() {
            break;
        }
    }
    // A client that is gone does not free what is stuck: the database has not noticed yet.
    if !stuck.load(Ordering::SeqCst) {
        let _gone = database.shutdown(Shutdown::Both);
    }
}

fn answers(shared: &Shared, stuck: &AtomicBool, mut client: TcpStream, mut database: TcpStream) {
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = database.read(&mut buffer) {
        let bytes = buffer.get(..read).unwrap_or_default();
        if stuck.load(Ordering::SeqCst) {
            if let Some(held) = &mut shared.state().held {
                held.answer.extend_from_slice(bytes);
            }
            shared.stuck();
        } else if client.write_all(bytes).is_err() {
            break;
        }
    }
    let _gone = client.shutdown(Shutdown::Both);
}

/// Whether a client has sent the COMMIT of a transaction that it began earlier, in the words of PostgreSQL or
/// MySQL; each waits for the answer to one request before it sends the next.
fn is_commit(bytes: &[u8]) -> bool {
    let ends = bytes.ends_with(b"COMMIT") || bytes.ends_with(b"COMMIT\0");
    ends && !bytes.windows(5).any(|word| word == b"BEGIN")
}
