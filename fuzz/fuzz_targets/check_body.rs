//! Any bytes as the body of a check: no panic, no hang, the same answer twice.
#![no_main]

use checkrein_core::{check::Check, classify::Catalogue, name::Name};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let config = r#"{"tools":[{"tool":"crm_*","resource":"crm.{object}","records":"ids","statement":"sql"}],
        "targets":[{"name":"shop","environment":"staging","resources":["https://sandbox.*"]}]}"#;
    serde_json::from_str(config).ok().and_then(|config| Catalogue::new(&config).ok()).unwrap_or_default()
});

fuzz_target!(|body: &[u8]| {
    let Ok(check) = serde_json::from_slice::<Check>(body) else { return };
    let plain = CATALOGUE.classify(&check, Name::default_agent());
    let explained = CATALOGUE.explain(&check, Name::default_agent()).map(|(action, _)| action);
    assert_eq!(plain, explained);
});
