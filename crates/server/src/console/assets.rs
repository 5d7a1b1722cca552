//! The style sheet, the script and the icon, named after their content so that browsers may keep them.

use crate::app::Error;
use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse as _, Response},
};
use checkrein_core::fingerprint::hex;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

const CSS: &str = include_str!("../../assets/console.css");
const JS: &str = include_str!("../../assets/console.js");
const ICON: &str = include_str!("../../assets/icon.svg");

static CSS_NAME: LazyLock<String> = LazyLock::new(|| named("console", CSS, "css"));
static JS_NAME: LazyLock<String> = LazyLock::new(|| named("console", JS, "js"));

fn named(stem: &str, content: &str, ending: &str) -> String {
    let hash = hex(&Sha256::digest(content));
    format!("{stem}-{}.{ending}", hash.chars().take(16).collect::<String>())
}

/// The style sheet's name.
pub(super) fn css() -> &'static str {
    CSS_NAME.as_str()
}

/// The script's name.
pub(super) fn js() -> &'static str {
    JS_NAME.as_str()
}

/// `/assets/…`: open to everybody; there is nothing in them that is not in the source.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Error> {
    let (kind, content) = match name.as_str() {
        name if name == css() => ("text/css; charset=utf-8", CSS),
        name if name == js() => ("text/javascript; charset=utf-8", JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Error::NotFound("asset", name.chars().take(64).collect())),
    };
    let keep =
        if name == "icon.svg" { "public, max-age=86400" } else { "public, max-age=31536000, immutable" };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)], content).into_response())
}
