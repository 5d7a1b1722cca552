"""The article's code, to the letter, against the real server. Only the import and the key are a user's own."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_server import RealServer, serving

from vaultak import PolicyViolationError, RollbackConflictError, VaultakClient

IMPORT = "from vaultak import VaultakClient, PolicyViolationError\n"
ARTICLE = """
client = VaultakClient(api_key="your_api_key")
result = client.check(action="update", resource="users.accounts", payload={"record_count": len(affected_records)})
if result.blocked:
    raise PolicyViolationError(result.reason)
client.policies.create({"name": "blast_radius_limit", "rule": "block",
    "condition": {"action": "update", "record_count_exceeds": 25}})
client.policies.create({"name": "no_production_deletes", "rule": "block",
    "condition": {"action": "delete", "resource_pattern": "production.*"}})
client.policies.create({"name": "email_volume_alert", "rule": "alert",
    "condition": {"action": "send_email", "recipient_count_exceeds": 50}})
"""


def run(server: RealServer, records: int, check: Callable[[VaultakClient], None] = lambda _: None) -> None:
    names: dict[str, Any] = {"affected_records": list(range(records))}
    try:
        exec(IMPORT + ARTICLE.replace("your_api_key", server.admin_key), names)
        check(names["client"])
    finally:
        names["client"].close()  # the article leaves that to the end of its process


def test_the_article_runs_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("CHECKREIN_URL", server.url)
        run(server, 10_000)  # there is no policy yet
        run(server, 25, decides)  # the policies exist: that is no error
        with pytest.raises(PolicyViolationError, match="26"):
            run(server, 26)


def decides(client: VaultakClient) -> None:
    assert len(client.policies.list()) == 3
    assert client.check(action="delete", resource="production.users", payload={"record_count": 1}).blocked
    assert not client.check(action="delete", resource="staging.users", payload={"record_count": 1}).blocked
    mail = client.check(
        action="send_email",
        resource="mail.list",
        payload={"to": [f"u{i}@example.com" for i in range(51)]},
    )
    assert mail.allowed
    assert [p.name for p in mail.policies] == ["email_volume_alert"]


THIRD = """
client = VaultakClient(api_key="your_api_key")
snapshot = client.snapshot(resource="users.accounts", record_ids=affected_records)
agent_action()
client.rollback(snapshot_id=snapshot.id)
"""


def accounts(file: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        return db.execute("SELECT * FROM accounts ORDER BY id").fetchall()


def test_the_third_listing_runs_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, config = tmp_path / "users.sqlite", tmp_path / "checkrein.toml"
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, plan TEXT NOT NULL)")
        db.executemany("INSERT INTO accounts VALUES (?, 'pro')", [(i,) for i in range(1, 41)])
    before = accounts(file)
    config.write_text('[targets.users]\nkind = "sqlite"\npath = "users.sqlite"\nenvironment = "production"\n')

    def change(where: str) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db, db:
            db.execute(f"UPDATE accounts SET plan = 'gone' WHERE {where}")

    with serving(config) as server:
        monkeypatch.setenv("CHECKREIN_URL", server.url)
        names: dict[str, Any] = {"affected_records": list(range(1, 31))}
        third = IMPORT + THIRD.replace("your_api_key", server.admin_key)

        def action_that_is_sealed() -> None:
            change("id <= 30")
            names["client"].seal(names["snapshot"])

        names["agent_action"] = action_that_is_sealed
        exec(third, names)
        assert accounts(file) == before, "the 30 records are back"
        names["client"].close()

        # Never sealed: nobody can tell whose change it is, so a person has to look at it first.
        names["agent_action"] = lambda: change("id = 7")
        with pytest.raises(RollbackConflictError) as shown:
            exec(third, names)
        assert [c["now"]["plan"] for c in shown.value.conflicts] == ["gone"]
        assert accounts(file) != before
        names["client"].rollback(names["snapshot"].id, on_conflict="force")
        assert accounts(file) == before
        names["client"].close()
