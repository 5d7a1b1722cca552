"""A shop on SQLite, and a server that is connected to it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from real_server import RealServer, serving

from agents import client


class Shop:
    def __init__(self, server: RealServer, database: Path) -> None:
        self.server = server
        self._database = database

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """What somebody does there who asks no checkpoint."""
        with contextlib.closing(sqlite3.connect(self._database, timeout=10)) as db, db:
            return db.execute(statement).fetchall()

    def plans(self) -> list[str]:
        return [str(plan) for (plan,) in self.sql("SELECT plan FROM users ORDER BY id")]

    def upgrade(self, agent: str = "billing-bot") -> str:
        """The agent changes every user's plan, guarded; returns the snapshot."""
        with client(self.server) as asked:
            done = asked.execute("shop", "UPDATE users SET plan = 'free' WHERE plan = 'pro'", agent=agent)
        assert done.executed, done
        return str(done.snapshot_id)


@contextlib.contextmanager
def open_shop(users: int = 5) -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="checkrein-shop-") as folder:
        database = Path(folder, "shop.db")
        with contextlib.closing(sqlite3.connect(database)) as db, db:
            db.executescript(
                "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, plan TEXT NOT NULL);"
                "CREATE TABLE orders (id INTEGER PRIMARY KEY,"
                " user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE, cents INTEGER);"
            )
            db.executemany("INSERT INTO users VALUES (?, ?, 'pro')", [(i, f"user {i}") for i in range(users)])
            db.executemany(
                "INSERT INTO orders (user, cents) VALUES (?, 990)", [(i % users,) for i in range(3 * users)]
            )
        config = Path(folder, "checkrein.toml")
        config.write_text(
            f'[targets.shop]\nkind = "sqlite"\npath = "{database}"\nenvironment = "production"\n'
        )
        with serving(config) as server:
            yield Shop(server, database)
