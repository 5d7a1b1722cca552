//! Any text as a URL, a host, a command: no panic, no hang, and hosts in their one form.
#![no_main]

use checkrein_core::{check::Check, classify::Catalogue, name::Name};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::default);

fuzz_target!(|text: &str| {
    let check = Check {
        tool: Some("fetch".into()),
        arguments: Some(json!({"url": text, "host": text, "endpoint": text, "command": text, "x": text, "to": text})),
        ..Check::default()
    };
    if let Ok(action) = CATALOGUE.classify(&check, Name::default_agent()) {
        for host in &action.domains.known {
            assert!(host.is_ascii() && !host.contains(['@', '/', '\\', ' ', '?', '#']), "{host}");
            assert!(!host.ends_with('.'), "{host}");
        }
    }
    let check = Check { action: Some("read".into()), resource: Some(text.to_owned()), ..Check::default() };
    let _any = CATALOGUE.classify(&check, Name::default_agent());
});
