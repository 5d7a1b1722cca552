//! `[mcp.NAME]`: the MCP servers that `checkrein mcp --listen` fronts. The server itself does nothing with them.

use super::{Env, document::Section};
use secrecy::SecretString;

/// An MCP server that speaks streamable HTTP.
#[derive(Clone, Debug)]
pub struct McpServer {
    /// What it is called: clients find it at `/NAME/mcp`, policies its tools as `mcp__NAME__TOOL`.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Sent to it as `Authorization`, in place of what a client sends.
    pub authorization: Option<SecretString>,
}

/// Whether `text` can be the name of an MCP server: part of a tool's name, of an address and of a file's name.
///
/// # Errors
/// What a name has to be.
pub fn mcp_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.contains("__") {
        return Ok(text.to_owned());
    }
    Err("a name is 1 to 64 of a-z, 0-9, - and _, without __".to_owned())
}

/// Every server that is described well enough. Without `env` its secrets are only looked at for their form.
pub(super) fn read(root: &mut Section<'_>, env: Option<Env<'_>>) -> Vec<McpServer> {
    let mut found = Vec::new();
    for (name, mut section) in root.named("mcp") {
        if let Err(problem) = mcp_name(name) {
            section.problem("", problem);
        }
        let url = section.text("url", |text| {
            if text.starts_with("http://") || text.starts_with("https://") {
                return Ok(text.to_owned());
            }
            Err("must begin with http:// or https://".to_owned())
        });
        if url.is_none() && section.line_of("url").is_none() {
            section.problem("url", "is missing; write where the MCP server is");
        }
        let authorization = section.secret("authorization", env);
        section.finish();
        found.extend(url.map(|url| McpServer { name: name.to_owned(), url, authorization }));
    }
    found
}
