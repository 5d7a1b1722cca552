//! `checkrein breaker` and `checkrein drift` against a server.

use crate::server::Server;
use serde_json::json;

#[test]
fn an_agent_is_stopped_looked_at_and_let_run_again() {
    let server = Server::start();
    let check = ["check", "--agent", "bot", "--action", "update", "--resource", "shop.users"];
    server.expect(0, &check);
    let none = server.expect(0, &["breaker", "status"]);
    assert!(none.stderr.contains("every breaker is closed"), "{}", none.stderr);
    server.expect(2, &["breaker", "open", "--reason", "whose?"]);
    server.expect(2, &["breaker", "open", "--agent", "bot"]);

    let open = server.expect(0, &["breaker", "open", "--agent", "bot", "--reason", "look into it"]);
    assert!(open.stdout.starts_with("open     agent:bot"), "{}", open.stdout);
    assert!(open.stderr.contains("checkrein breaker close --agent bot"), "{}", open.stderr);
    let blocked = server.expect(3, &check);
    assert!(blocked.stdout.contains("look into it"), "{}", blocked.stdout);
    let listed = server.expect(0, &["breaker", "status"]);
    assert!(
        listed.stdout.contains("agent:bot") && listed.stdout.contains("a person closes it"),
        "{}",
        listed.stdout
    );

    let told = server.expect(0, &["drift", "explain", "bot", "--svg", "plot.svg"]);
    for part in ["still in its first week", "breaker   open", "this hour 2 actions", "update", "block"] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    let plot = std::fs::read_to_string(server.cli.dir.path().join("plot.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("bot: actions an hour"));

    server.expect(0, &["drift", "accept", "bot", "--reason", "a new job"]);
    assert_eq!(server.json(&["drift", "rebuild"]), json!({"agents": 1, "actions": 2}));
    server.expect(1, &["drift", "explain", "nobody"]);
    let closed = server.expect(0, &["breaker", "close", "--agent", "bot", "--reason", "all is well"]);
    assert!(closed.stdout.starts_with("closed   agent:bot"), "{}", closed.stdout);
    server.expect(0, &check);

    // A stop that hits nobody says so.
    let typo = server.expect(0, &["breaker", "open", "--agent", "bott", "--reason", "typo"]);
    assert!(typo.stdout.starts_with("open     agent:bott"), "{}", typo.stdout);
    assert!(
        typo.stderr.contains("no agent `bott` has acted here yet. Did you mean `bot`?"),
        "{}",
        typo.stderr
    );
    let typo = server.expect(0, &["breaker", "close", "--agent", "bott", "--reason", "typo"]);
    assert!(typo.stderr.contains("has acted here yet"), "{}", typo.stderr);
    assert!(!open.stderr.contains("warning"), "{}", open.stderr);

    server.expect(0, &["breaker", "open", "--all", "--reason", "the big red switch"]);
    server.expect(3, &["check", "--agent", "other", "--action", "read", "--resource", "x"]);
    server.expect(0, &["breaker", "close", "--all", "--reason", "over"]);
    let run = server.stop();
    let log = run.expect(0, &["log", "tail", "-n", "50"]).stdout;
    assert!(log.contains("open by") && log.contains("a new job"), "{log}");
    run.expect(0, &["log", "verify"]);
}
