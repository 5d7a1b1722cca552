"""Shows Checkrein at work: a scripted agent on a real SQLite shop, a real server, nothing left behind.

Needs the package `checkrein` and, in CHECKREIN_BIN, the `checkrein` binary. Exits with 1 if anything does
not happen as it is told here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from checkrein import BlastRadius, Checkrein, ExecutionResult, PolicyViolationError
from receivers import Receivers, receiving

WIDTH = 98
POLICIES = [
    {
        "name": "blast_radius_limit",
        "rule": "block",
        "condition": {"action": ["update", "delete"], "record_count_exceeds": 1_000},
    },
    {
        "name": "bulk_changes_need_a_person",
        "rule": "require_approval",
        "condition": {"action": ["update", "delete"], "record_count_exceeds": 25},
    },
    {
        "name": "email_volume_alert",
        "rule": "alert",
        "condition": {"action": "send_email", "recipient_count_exceeds": 50},
    },
    {
        "name": "approved_domains",
        "rule": "block",
        "condition": {"domain_not_in": ["payments.example", "*.payments.example"]},
    },
]
CONFIG = """
[targets.production]
kind = "sqlite"
path = "shop.sqlite"
environment = "production"

[[routes]]
kinds = ["action.blocked"]
environment = "production"
policy = "blast_radius_limit"
sinks = ["team", "oncall"]
interval = "1s"
"""


class NotAsTold(Exception):
    """Something did not happen as this demonstration says it does."""


def require(fact: bool, what: str) -> None:
    if not fact:
        raise NotAsTold(what)


class Screen:
    """Prints, in colour where a person looks on."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def title(self, text: str) -> None:
        print(f"\n{self.paint('1', text)}", flush=True)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def step(self, verdict: str, what: str, reason: str) -> None:
        code = {
            "allowed": "32",
            "alerted": "33",
            "held": "33",
            "approved": "32",
            "restored": "32",
            "BLOCKED": "1;31",
        }[verdict]
        room = WIDTH - 11
        lines = textwrap.wrap(plain(reason), room)
        if len(what) + 3 + len(reason) <= room:
            what, lines = f"{what} · {reason}", []
        print(f"  {self.paint(code, f'{verdict:<9}')}{plain(what)}")
        for line in lines:
            print(f"{'':11}{self.paint('2', line)}", flush=True)


def plain(text: str) -> str:
    """``text`` as a terminal may see it: it may quote what an agent sent."""
    return "".join(c if c.isprintable() else "?" for c in text)


class Shop:
    """A shop in one SQLite file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._open() as db:
            db.executescript(
                "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL, plan TEXT NOT NULL);"
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL, state TEXT NOT NULL,"
                "  user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE);"
                "CREATE TABLE outbox (id INTEGER PRIMARY KEY, recipient TEXT, subject TEXT);"
            )
            users = [(f"user{i}@mail.example", "free" if i % 3 else "pro") for i in range(1, 10_001)]
            db.executemany("INSERT INTO users (email, plan) VALUES (?, ?)", users)
            orders = [(i % 10_000 + 1, i * 7 % 9_000 + 100, "paid") for i in range(1, 2_501)]
            db.executemany("INSERT INTO orders (user_id, cents, state) VALUES (?, ?, ?)", orders)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.file)) as db, db:
            yield db

    def ask(self, sql: str, *params: Any) -> list[Any]:
        with self._open() as db:
            return db.execute(sql, params).fetchall()

    def mail(self, recipients: list[str], subject: str) -> int:
        with self._open() as db:
            db.executemany(
                "INSERT INTO outbox (recipient, subject) VALUES (?, ?)", [(r, subject) for r in recipients]
            )
        return len(recipients)

    def digest(self) -> str:
        """Of every record of every table, hidden row numbers included, and of the schema."""
        with self._open() as db:
            tables = ("sqlite_master", "users", "orders", "outbox")
            every = [db.execute(f"SELECT rowid, * FROM {t} ORDER BY rowid").fetchall() for t in tables]
        return hashlib.sha256(repr(every).encode()).hexdigest()


def call_api(url: str, body: dict[str, Any]) -> int:
    """Really calls it; every call of it here is one that must never happen."""
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=2) as answer:
        return int(answer.status)


class Server:
    """The server, with its data in ``folder``."""

    def __init__(self, binary: Path, folder: Path, receivers: Receivers) -> None:
        self.binary = binary
        self.data = folder / "data"
        self._log = folder / "server.log"
        config = folder / "checkrein.toml"
        config.write_text(CONFIG + receivers.config)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CHECKREIN_")}
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [
                    binary,
                    "serve",
                    "--json",
                    "--listen",
                    "127.0.0.1:0",
                    "--data",
                    self.data,
                    "--config",
                    config,
                ],
                env=clean | receivers.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            announced = json.loads(self._first_line())
            self.url, self.admin_key = str(announced["listening"]), str(announced["admin_key"])
        except BaseException as error:
            self.stop()
            if not isinstance(error, (ValueError, KeyError)):
                raise
            raise NotAsTold(f"the server starts; it said:\n{self._log.read_text()[-2000:]}") from error

    def _first_line(self) -> bytes:
        assert self._child.stdout is not None
        line, ends = b"", time.monotonic() + 20
        while not line.endswith(b"\n"):
            ready = select.select([self._child.stdout], [], [], max(ends - time.monotonic(), 0))[0]
            piece = os.read(self._child.stdout.fileno(), 4096) if ready else b""
            if not piece:
                break
            line += piece
        return line

    def command(self, *args: str, key: str = "") -> str:
        """Run a `checkrein` command, as a person at a terminal would; its output."""
        done = subprocess.run(
            [self.binary, *args],
            env=os.environ | {"CHECKREIN_URL": self.url, "CHECKREIN_API_KEY": key},
            text=True,
            capture_output=True,
            timeout=30,
            check=False,
        )
        require(
            done.returncode == 0, f"`checkrein {' '.join(args)}` succeeds; it said: {done.stderr.strip()}"
        )
        return done.stdout

    def new_key(self, role: str, name: str, *more: str) -> str:
        made = self.command(
            "keys", "create", "--json", "--role", role, "--name", name, *more, key=self.admin_key
        )
        return str(json.loads(made)["key"])

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


class Agent:
    """What the agent does, and what comes of it."""

    def __init__(self, client: Checkrein, screen: Screen) -> None:
        self._client = client
        self._screen = screen

    def may(self, what: str, do: Callable[[], Any], alert: str | None = None, **action: Any) -> Any:
        """An action that is expected to run, with or without an alert."""
        with self._client.guard(**action) as check:
            alerts = [p for p in check.policies if p.rule == "alert"]
            require([p.name for p in alerts] == ([alert] if alert else []), f"{what}: alerts {alert}")
            result = do()
            check.outcome("ok", records=result if isinstance(result, int) else None)
        if alerts:
            self._screen.step("alerted", what, f"{alerts[0].name}: {alerts[0].reason}")
        else:
            self._screen.step("allowed", what, check.reason)
        return result

    def may_not(self, what: str, do: Callable[[], Any], policy: str, **action: Any) -> None:
        """An action that is expected not to run."""
        try:
            with self._client.guard(**action):
                do()
        except PolicyViolationError as stopped:
            found = stopped.result
            require(found is not None and found.verdict == "block", f"{what}: is blocked")
            assert found is not None
            by = [p for p in found.policies if p.name == policy]
            require(bool(by), f"{what}: is blocked by {policy}")
            self._screen.step("BLOCKED", what, f"{policy}: {by[0].reason}")
            return
        raise NotAsTold(f"{what}: is blocked; it ran")

    def runs(self, what: str, sql: str, *params: Any, said: int | None = None) -> ExecutionResult:
        """SQL that is expected to run."""
        done = self._client.execute("production", sql, params, record_count=said)
        require(done.executed, f"{what}: runs; {done.reason}")
        self._screen.step("allowed", what, done.reason)
        return done

    def stopped(self, what: str, sql: str, policy: str, said: int | None = None) -> BlastRadius:
        """SQL that is expected to be measured, stopped and taken back."""
        done = self._client.execute("production", sql, record_count=said)
        by = [p for p in done.policies if p.name == policy]
        require(done.verdict == "block" and bool(by), f"{what}: is blocked by {policy}; {done.reason}")
        require(not done.executed and done.blast_radius is not None, f"{what}: does not run")
        assert done.blast_radius is not None
        self._screen.step("BLOCKED", what, f"{policy}: {by[0].reason}")
        return done.blast_radius

    def asks(self, what: str, sql: str) -> ExecutionResult:
        """SQL that is expected to be held."""
        held = self._client.execute("production", sql)
        require(held.held and held.approval_id is not None, f"{what}: is held, not {held.verdict}")
        self._screen.step("held", what, f"{held.policies[0].name}: {held.policies[0].reason}")
        return held


def play(server: Server, shop: Shop, receivers: Receivers, screen: Screen) -> None:
    with Checkrein(server.url, server.admin_key, timeout=10) as admin:
        admin.policies.apply(POLICIES)
    agent_key = server.new_key("agent", "shop bot", "--agent", "shop-bot")
    person_key = server.new_key("operator", "Ada")

    with Checkrein(server.url, agent_key, session="demo", timeout=10) as client:
        agent = Agent(client, screen)
        screen.title("Ordinary work goes on")
        users = agent.runs(
            "read 3 users on the plan `pro`", "SELECT id FROM users WHERE plan = 'pro' LIMIT 3"
        )
        ids = [row["id"] for row in users]
        changed = agent.runs("update those 3", "UPDATE users SET plan = 'team' WHERE id IN (?, ?, ?)", *ids)
        require(changed.affected == 3, "3 users are updated")

        screen.title("The agent says 12. Checkrein counts for itself, in the open transaction")
        before = shop.digest()
        lie = agent.stopped(
            "delete 12 unused accounts",
            "DELETE FROM users WHERE plan = 'free'",
            "blast_radius_limit",
            said=12,
        )
        require(lie.declared == 12 and lie.understated, "the lie is noticed")
        counted = " and ".join(f"{n:,} {resource.split('.')[-1]}" for resource, n in lie.by_resource if n)
        screen.say(f"{'':11}said {lie.declared}, measured {lie.records:,}: {counted} (cascade)")
        agent.stopped("update every user", "UPDATE users SET plan = 'expired'", "blast_radius_limit")
        require(shop.digest() == before, "the shop is unchanged")
        screen.say(f"  Taken back; the shop is the same, record for record: sha256 {before[:16]}…")

        screen.title("What leaves the house is looked at, too")
        url = "https://payments.example@203.0.113.9/export"
        agent.may_not(
            f"call {url}",
            partial(call_api, url, {"rows": 10_000}),
            "approved_domains",
            tool="http_post",
            arguments={"url": url, "body": {"rows": 10_000}},
        )
        addresses = [r[0] for r in shop.ask("SELECT email FROM users LIMIT 120")]
        agent.may(
            "mail to 120 customers",
            lambda: shop.mail(addresses, "Our new opening hours"),
            "email_volume_alert",
            action="send_email",
            resource="mail.customers",
            payload={"to": addresses, "subject": "Our new opening hours"},
        )

        screen.title("A person lets a bulk update through, and takes it back")
        before = shop.digest()
        held = agent.asks("refund 500 orders", "UPDATE orders SET state = 'refunded' WHERE id <= 500")
        require(shop.digest() == before, "nothing is refunded yet")
        approval = str(held.approval_id)
        server.command("approvals", "approve", approval, "--comment", "as agreed", key=person_key)
        done = held.wait(timeout=20)
        require(done.executed and done.affected == 500, f"it runs once approved: {done.reason}")
        screen.step("approved", f"500 orders refunded, kept as {str(done.snapshot_id)[:12]}…", done.reason)
        refunded = shop.ask("SELECT count(*) FROM orders WHERE state = 'refunded'")
        require(refunded == [(500,)], "500 orders are refunded")
        server.command("rollback", str(done.snapshot_id), key=person_key)
        require(shop.digest() == before, "the shop is as it was before")
        screen.step(
            "restored",
            "checkrein rollback snp_…",
            f"500 orders, verified: same shop, sha256 {shop.digest()[:16]}…",
        )

    screen.title("Slack and PagerDuty (here: stand-ins) were told, and all of it is on record, whole")
    hear(receivers, screen)
    verified = server.command("log", "verify", "--data", str(server.data)).splitlines()
    screen.say(f"  {verified[0][:WIDTH]}")


def hear(receivers: Receivers, screen: Screen) -> None:
    """What arrived about both blocked changes.

    The server sends it on its own: the second is in the message about the first, or in one a second later.
    """
    newest = "update on production.users by shop-bot: Blocked by blast_radius_limit"
    slack = receivers.first("slack", lambda message: newest in message["text"], 10)
    require(slack is not None, "Slack is told within 10 seconds")
    page = receivers.first("pagerduty", lambda event: newest in event["payload"]["summary"], 10)
    require(page is not None, "PagerDuty is told within 10 seconds")
    assert slack is not None
    assert page is not None
    said, summary, severity = slack["text"], page["payload"]["summary"], page["payload"]["severity"]
    for where, text in (("Slack", said), ("PagerDuty", summary)):
        require("action.blocked (2 times)" in text, f"{where} is told of 2 blocks; it was told: {text}")
    require(severity == "warning", f"PagerDuty hears a warning, not {severity}")
    for where, text in (("Slack", said), ("PagerDuty", f"{severity} · {summary}")):
        screen.say(f"  {where:<10}{textwrap.shorten(plain(text), WIDTH - 12, placeholder='…')}")


interrupted: list[int] = []


def interrupt(number: int, _frame: object) -> None:
    """On Ctrl-C."""
    interrupted.append(number)
    raise KeyboardInterrupt


def keep(server: Server, screen: Screen) -> None:
    """Leaves the server to whoever looks on, with something to decide."""
    screen.title("The server still runs, and the agent waits for you")
    agent_key = server.new_key("agent", "shop bot, again", "--agent", "shop-bot")
    with Checkrein(server.url, agent_key, session="demo", timeout=10) as client:
        agent = Agent(client, screen)
        waiting = [
            (what, agent.asks(what, sql))
            for what, sql in (
                ("cancel 300 orders", "UPDATE orders SET state = 'cancelled' WHERE id > 2200"),
                ("delete 60 users", "DELETE FROM users WHERE id > 9940"),
            )
        ]
        key = server.new_key("operator", "you")
        screen.say(f"  See them, and all that was, at {server.url}/ and sign in with")
        screen.say(screen.paint("36", f"  {key}"))
        screen.say("  or answer with `checkrein approvals`, after")
        screen.say(screen.paint("36", f"  export CHECKREIN_URL={server.url} CHECKREIN_API_KEY={key}"))
        screen.say("  What comes of your answers appears here. Ctrl-C ends it and removes everything.")
        for what, held in waiting:
            done = held.wait(timeout=86_400)
            screen.step("allowed" if done.executed else "BLOCKED", what, done.reason)
    # Not `pause`: a Ctrl-C just before it, or while something is being cleared away, would be lost.
    while not interrupted:
        time.sleep(0.5)
    raise KeyboardInterrupt


def goodbye(screen: Screen, binary: Path) -> None:
    screen.title("Your turn: `make demo KEEP=1` for its pages in your browser, with something to decide; or")
    screen.say(f"  {near(binary)} serve")
    screen.say(
        f"  and in another terminal, as a file for {near(Path(sys.executable))}, with the key that it prints:"
    )
    for line in (
        "from checkrein import Checkrein",
        'client = Checkrein(api_key="…")',
        "@client.guard",
        "def update_users(ids): ...",
        "update_users([1, 2, 3])    # runs only if it may",
    ):
        screen.say(screen.paint("36", f"    {line}"))


def near(program: Path) -> str:
    """How to type ``program`` in the current folder."""
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else program.name


def main() -> int:
    binary = Path(os.environ.get("CHECKREIN_BIN", "")).resolve()
    if not binary.is_file():
        print(
            "error: CHECKREIN_BIN must name the checkrein binary; `make demo` sees to that", file=sys.stderr
        )
        return 2
    # So that the server is stopped and the folder removed also when this is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, interrupt)
    screen = Screen()
    try:
        with tempfile.TemporaryDirectory(prefix="checkrein-demo-") as folder, receiving() as receivers:
            server = Server(binary, Path(folder), receivers)
            try:
                shop = Shop(Path(folder) / "shop.sqlite")
                screen.say(
                    f"A shop with 10,000 users, 2,500 orders in SQLite; an agent; {len(POLICIES)} policies."
                )
                play(server, shop, receivers, screen)
                if "--keep" in sys.argv[1:]:
                    keep(server, screen)
            finally:
                server.stop()
    except NotAsTold as told:
        print(f"error: not as told: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    goodbye(screen, binary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
