//! The server as a child process: started, spoken with, and never left behind.

use super::{
    super::Gateway,
    Outgoing, QUEUE, Session,
    lines::{self, Line},
};
use crate::mcp::{message::PARSE_ERROR, words};
use std::{ffi::OsString, io, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

/// How long a server may take to end after its input was closed, and again after it was told to.
const GRACE: Duration = Duration::from_secs(2);

/// Why a server cannot be fronted.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// It does not start.
    #[error("the MCP server `{0}` cannot be started: {1}; is it installed, and is that its name?")]
    Start(String, io::Error),
    /// This process cannot be set up.
    #[error("the gateway cannot start: {0}")]
    SetUp(io::Error),
    /// It says more at once than is read.
    #[error("the MCP server sent a message of more than {0} bytes; --max-message allows more")]
    TooLong(usize),
}

/// Why the session ended.
enum Ended {
    Client,
    Server,
    Told,
    TooLong(usize),
}

/// Starts `program` and stands between it and this process's standard input and output, until one of them
/// ends or this process is told to. Gives back the server's exit code, 0 if it was stopped.
///
/// # Errors
/// When it cannot be started, or sends a message that is too large.
pub async fn run(
    gateway: Arc<Gateway>,
    program: &OsString,
    arguments: &[OsString],
) -> Result<i32, StdioError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StdioError::SetUp)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StdioError::SetUp)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // The server is not to speak with the agent's key.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CHECKREIN_"))
    {
        command.env_remove(name);
    }
    let mut child =
        command.spawn().map_err(|e| StdioError::Start(program.to_string_lossy().into_owned(), e))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(StdioError::SetUp(io::Error::other("the server has no input or output")));
    };

    let (to_client, for_client) = mpsc::channel(QUEUE);
    let (to_server, for_server) = mpsc::channel(QUEUE);
    let session = Arc::new(Session {
        gateway: Arc::clone(&gateway),
        name: gateway.options.session.clone().unwrap_or_else(new_session),
        to_client,
        to_server,
        calls: <_>::default(),
        asked: <_>::default(),
        elicits: false.into(),
    });
    let mut from_client = tokio::spawn(read_client(Arc::clone(&session)));
    let mut from_server =
        tokio::spawn(read_server(Arc::clone(&session), BufReader::with_capacity(64 * 1024, output)));
    let mut write_client = tokio::spawn(write_lines(tokio::io::stdout(), for_client));
    let write_server = tokio::spawn(write_lines(input, for_server));

    let ended = tokio::select! {
        _ = &mut from_client => Ended::Client,
        _ = &mut write_client => Ended::Client,
        end = &mut from_server => end.unwrap_or(Ended::Server),
        _ = terminate.recv() => Ended::Told,
        _ = interrupt.recv() => Ended::Told,
    };
    from_client.abort();
    let code = match ended {
        Ended::Server | Ended::TooLong(_) => {
            session.server_gone().await;
            stop(&mut child, Duration::ZERO).await
        }
        Ended::Client | Ended::Told => {
            session.client_gone();
            // What was sent before is still written; then its input ends, and it with that.
            let _gone = session.to_server.send(None).await;
            let grace = if matches!(ended, Ended::Told) { Duration::ZERO } else { GRACE };
            let code = stop(&mut child, grace).await;
            let _rest = timeout(GRACE, &mut from_server).await;
            code
        }
    };
    from_server.abort();
    write_server.abort();
    // The tickets of what the server never answered report as they are dropped.
    session.calls().clear();
    drop(session);
    let _written = timeout(GRACE, write_client).await;
    gateway.finish().await;
    match ended {
        Ended::TooLong(max) => Err(StdioError::TooLong(max)),
        _ => Ok(code),
    }
}

/// A name for a run that has none.
fn new_session() -> String {
    format!("mcp-{}", uuid::Uuid::now_v7().simple())
}

/// Waits for the end of the server, then insists.
async fn stop(child: &mut Child, grace: Duration) -> i32 {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    let told = if let Ok(Ok(status)) = timeout(grace.max(Duration::from_millis(200)), child.wait()).await {
        return status.code().unwrap_or(1);
    } else {
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM))
    };
    if told.is_none() || timeout(GRACE, child.wait()).await.is_err() {
        let _gone = child.kill().await;
    }
    0
}

async fn read_client(session: Arc<Session>) {
    let mut reader = BufReader::with_capacity(64 * 1024, tokio::io::stdin());
    let max = session.gateway.options.max_message;
    let mut line = Vec::new();
    loop {
        let went = match lines::next(&mut reader, &mut line, max).await {
            Ok(Line::Whole) => session.client_says(&line).await,
            Ok(Line::TooLong) => {
                let message = format!("the message is longer than {max} bytes; it was not passed on");
                session.tell_client(words::error(None, PARSE_ERROR, &message)).await
            }
            Ok(Line::End) | Err(_) => return,
        };
        if went.is_err() {
            return;
        }
    }
}

async fn read_server(session: Arc<Session>, mut reader: BufReader<tokio::process::ChildStdout>) -> Ended {
    let max = session.gateway.options.max_message;
    let mut line = Vec::new();
    loop {
        match lines::next(&mut reader, &mut line, max).await {
            Ok(Line::Whole) => {
                if session.server_says(&line).await.is_err() {
                    return Ended::Client;
                }
            }
            Ok(Line::TooLong) => return Ended::TooLong(max),
            Ok(Line::End) | Err(_) => return Ended::Server,
        }
    }
}

/// Writes each message as a line, until there is none or the other side is gone.
async fn write_lines(to: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<Outgoing>) {
    let mut to = BufWriter::with_capacity(64 * 1024, to);
    while let Some(Some(message)) = messages.recv().await {
        let write = async {
            to.write_all(&message).await?;
            to.write_all(b"\n").await?;
            if messages.is_empty() { to.flush().await } else { Ok(()) }
        };
        if write.await.is_err() {
            return;
        }
    }
    let _gone = to.flush().await;
}
