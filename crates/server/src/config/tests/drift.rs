use super::*;
use crate::config::{DriftMode, DriftSettings};
use checkrein_core::name::Name;

#[test]
fn what_holds_for_an_agent_is_said_by_itself_its_group_or_all() {
    let dir = folder(&[(
        "checkrein.toml",
        "[drift]\nhold_at = 6.5\ncool_down = '1m'\n\
         [drift.groups.support]\nagents = ['ticket-*']\nmode = 'alert'\nopen_at = 8\n\
         [drift.groups.z]\nagents = ['*']\nexempt_reads = true\n\
         [drift.agents.ticket-bot]\nmode = 'enforce'\nprobes = 1\n",
    )]);
    let drift = load_with(&dir, Overrides::default(), &[]).unwrap().drift;
    let of = |name: &str| drift.settings_of(&Name::new(name).unwrap()).clone();
    let (bot, other, else_) = (of("Ticket-Bot"), of("ticket-2"), of("x"));
    assert_eq!((bot.mode, bot.breaker.probes, bot.breaker.open_at_drift), (DriftMode::Enforce, 1, 8.0));
    assert_eq!((other.mode, other.breaker.probes), (DriftMode::Alert, 3));
    assert!(else_.breaker.exempt_reads && !other.breaker.exempt_reads);
    for settings in [bot, other, else_] {
        assert_eq!((settings.hold_at, settings.breaker.cool_down_seconds), (6.5, 60));
    }
    let dir = folder(&[("checkrein.toml", "")]);
    let drift = load_with(&dir, Overrides::default(), &[]).unwrap().drift;
    assert_eq!(drift.settings, DriftSettings::default());
}

#[test]
fn what_would_never_open_or_close_is_refused() {
    assert_one("[drift]\nmode = 'on'\n", "2: drift.mode", "enforce");
    assert_one("[drift]\nopen_at = 3\n", "2: drift.open_at", "from 5 to 12");
    assert_one("[drift]\nprobes = 0\n", "2: drift.probes", "1 to 100");
    assert_one("[drift]\nopen_at_eros = 1\n", "2: drift.open_at_eros", "unknown");
    assert_one("[drift.groups.a]\nmode = 'off'\n", "1: drift.groups.a.agents", "needs `agents`");
}
