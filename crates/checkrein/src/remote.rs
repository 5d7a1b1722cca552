//! How a command reaches the server.

use crate::failure::{Code, Failure, Result};
use checkrein_api::{Client, ClientError};
use std::{future::Future, path::PathBuf};

/// Which server, and with which key. The key is no flag: everybody on a machine can read command lines.
#[derive(clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Remote {
    /// Where the server is
    #[arg(long, env = "CHECKREIN_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// A file that holds the key; otherwise it is read from CHECKREIN_API_KEY
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl Remote {
    /// Does something with the server.
    pub(crate) fn ask<T, F>(&self, ask: impl FnOnce(Client) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, ClientError>>,
    {
        run(self.client()?, ask)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Speaks to the server.
    pub(crate) fn client(&self) -> Result<Client> {
        // Before the key is looked for.
        address(&self.url)?;
        connect(&self.url, &self.key()?)
    }

    fn key(&self) -> Result<String> {
        let key = match &self.api_key_file {
            Some(file) => std::fs::read_to_string(file).map_err(|e| {
                Failure::Message(Code::Refused, format!("cannot read the key from {}: {e}", file.display()))
            })?,
            None => std::env::var("CHECKREIN_API_KEY").map_err(|_| {
                Failure::Message(
                    Code::Refused,
                    "no key: set CHECKREIN_API_KEY or name a file with --api-key-file. \
                     `checkrein serve` prints the first key on its first start"
                        .to_owned(),
                )
            })?,
        };
        Ok(key)
    }
}

/// The first page of a list that holds something, or the last one: each is a bounded search, so where few pass the
/// filter there are empty ones before. `standing` says whether a page is empty, and where the next begins.
pub(crate) async fn found<P>(
    mut query: Vec<(&str, String)>,
    ask: impl AsyncFn(&[(&str, String)]) -> std::result::Result<P, ClientError>,
    standing: impl Fn(&P) -> (bool, Option<String>),
) -> std::result::Result<P, ClientError> {
    loop {
        let page = ask(&query).await?;
        let (true, Some(next)) = standing(&page) else { return Ok(page) };
        query.retain(|(name, _)| *name != "cursor");
        query.push(("cursor", next));
    }
}

/// Does something with the server at `url`.
pub(crate) fn ask_at<T, F>(url: &str, key: &str, ask: impl FnOnce(Client) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, ClientError>>,
{
    run(connect(url, key)?, ask)
}

fn connect(url: &str, key: &str) -> Result<Client> {
    address(url)?;
    let key = key.trim();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::Message(
            Code::Refused,
            "the key is empty or holds a character that no key has; copy it again".to_owned(),
        ));
    }
    Ok(Client::new(url, key)?)
}

fn run<T, F>(client: Client, ask: impl FnOnce(Client) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<T, ClientError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    Ok(runtime.block_on(ask(client))?)
}

/// Whether `url` is the address of a server.
pub(crate) fn address(url: &str) -> Result {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(());
    }
    Err(Failure::usage(format!("`{url}` is no address of a server; it begins with http:// or https://")))
}
