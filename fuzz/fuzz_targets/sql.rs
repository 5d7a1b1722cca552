//! Any text as SQL: no panic, no hang, and a write that stands on its own is never a read.
#![no_main]

use checkrein_core::{action::Category, check::Check, classify::Catalogue, name::Name};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::default);

fuzz_target!(|text: &str| {
    let classify = |statement: String| {
        let check = Check { tool: Some("execute_sql".into()), statement: Some(statement), ..Check::default() };
        CATALOGUE.classify(&check, Name::default_agent())
    };
    let _any = classify(text.to_owned());
    if let Ok(action) = classify(format!("DELETE FROM users;\n{text}")) {
        assert!(action.category >= Category::Delete, "{action:?}");
    }
});
