//! What is said of drift and breakers, and figures as they are told.

use checkrein_core::{drift::breaker::Scope, name::Name, time::Timestamp};

/// Why an action is refused by a breaker that is open: the cause, and the next step.
pub(super) fn refused(scope: &Scope, since: Timestamp, why: &str, until: Option<Timestamp>) -> String {
    let next = until.map_or_else(
        || "It stays open until a person closes it".to_owned(),
        |until| format!("It lets a few actions try again from {until} on; a person can close it earlier"),
    );
    format!("Blocked: the breaker of {scope} is open since {since}: {why}. {next}: {}", close(scope))
}

/// Why an action cannot use an approval now: it has to be asked for, to be counted as a probe.
pub(super) fn probing(scope: &Scope, since: Timestamp, why: &str) -> String {
    format!(
        "Blocked: the breaker of {scope} was opened: {why}. Since {since} a few actions may try again, each when it \
         is asked for; ask again, which uses this approval, or close it: {}",
        close(scope)
    )
}

/// Why an action waits for a person.
pub(super) fn held(sentence: &str) -> String {
    format!("Held because this is not normal for the agent: {sentence}. A person must approve it.")
}

/// What is seen of all agents that come with keys for `pattern`.
pub(super) fn of_all(pattern: &Name, sentence: &str) -> String {
    format!("all agents of the key for {pattern} together: {sentence}")
}

/// The command that closes a breaker.
pub(super) fn close(scope: &Scope) -> String {
    format!("checkrein breaker close {} --reason \"…\"", flag(scope))
}

/// The flag of the command line that names a breaker.
fn flag(scope: &Scope) -> String {
    match (scope.agent_name(), scope.group_name()) {
        (Some(agent), _) => format!("--agent {}", quoted(agent)),
        (_, Some(group)) => format!("--group {}", quoted(group)),
        _ => "--all".to_owned(),
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-@/:".contains(&b)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A score as it is told: one decimal, never rounded up to the next severity.
pub(super) fn tenths(score: f32) -> f64 {
    let tenths = (f64::from(score) * 10.0).floor() / 10.0;
    // What is no number is as unusual as can be.
    if tenths.is_finite() { tenths } else { 12.0 }
}

/// A figure as it is told: two decimals.
pub(super) fn short(figure: f64) -> f64 {
    let short = (figure * 100.0).round() / 100.0;
    if short.is_finite() { short } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_never_gains_by_being_told() {
        assert!((tenths(6.96) - 6.9).abs() < 1e-9);
        assert!((tenths(7.0) - 7.0).abs() < 1e-9);
        assert!((tenths(f32::NAN) - 12.0).abs() < 1e-9);
    }

    #[test]
    fn the_next_step_can_be_typed() {
        let name = Name::new("a'b c").unwrap();
        let said = refused(&Scope::agent(&name), Timestamp::default(), "why", None);
        assert!(said.contains("--agent 'a'\\''b c' --reason"), "{said}");
    }
}
