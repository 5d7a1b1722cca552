//! Secrets: named in the configuration, kept elsewhere.

use super::document;
use secrecy::SecretString;
use std::path::Path;

/// What is said to a secret that stands in the file itself, which is read by more people than the secret is for.
pub(super) const NOT_IN_THE_FILE: &str =
    "a secret is not written into the configuration; write { env = \"NAME\" } or { file = \"PATH\" }";

/// The value of an environment variable.
pub(super) fn from_env(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, String> {
    match env(name) {
        Some(value) if !value.is_empty() => Ok(value.into()),
        Some(_) => Err(format!("the environment variable {} is empty; set it", name.escape_debug())),
        None => Err(format!(
            "the environment variable {} is not set; set it and start the server anew",
            name.escape_debug()
        )),
    }
}

/// The content of a file, without white space at its end.
pub(super) fn from_file(path: &Path) -> Result<SecretString, String> {
    let text = document::read(path).map_err(|problem| format!("the secret's file {problem}"))?;
    match text.trim_end() {
        "" => Err(format!("the secret's file {} is empty", path.display())),
        secret => Ok(secret.to_owned().into()),
    }
}
