//! The yardstick: a handler that reads a check's body and answers with bytes that it had ready.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;

use super::Error;

/// An answer of the size and form of a real one.
const ANSWER: &str = concat!(
    r#"{"id":"chk_01a202e8765d719795227071d6fa403a","verdict":"allow","reason":"Allowed; no policy objects to it.","#,
    r#""policies":[],"category":"write","environment":"production","blast_radius":{"records":12,"systems":1,"#,
    r#""recipients":0,"basis":"declared","declared":12,"by_resource":[{"resource":"shop.users","records":12}]},"#,
    r#""logged_at":"2026-11-22T10:58:38.813097Z"}"#
);

/// Serves until the process ends, on the same HTTP stack and number of threads as Checkrein.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(address: SocketAddr) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let check = |body: Bytes| async move {
            std::hint::black_box(&body);
            ([(CONTENT_TYPE, "application/json")], ANSWER)
        };
        let routes =
            axum::Router::new().route("/v1/checks", post(check)).route("/healthz", get(async || "ok"));
        let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
            // A connection without it is slower but correct, and this one is about to be measured anyway.
            drop(stream.set_nodelay(true));
        });
        Ok(axum::serve(listener, routes).await?)
    })
}
