"""Every page, dark and light, wide and on a phone: usable by everybody (axe), and pictures for the docs.

With `$UPDATE_SCREENSHOTS` set the pictures in `docs/img` are taken anew; else they go to a temporary folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agents import client, policies
from conftest import ROOT, key_of
from shop import Shop, open_shop

AXE = ROOT / ".cache/axe/node_modules/axe-core/axe.min.js"
RULES = [
    {
        "name": "blast_radius_limit",
        "rule": "block",
        "description": "Nobody changes more than 25 records at once.",
        "condition": {"category": "write", "record_count_exceeds": 25},
    },
    {
        "name": "deletes_need_a_person",
        "rule": "require_approval",
        "description": "What is deleted is hard to get back.",
        "condition": {"category": "delete"},
    },
    {
        "name": "quiet_nights",
        "rule": "alert",
        "mode": "shadow",
        "description": "Tried out: who sends mail?",
        "condition": {"category": "outbound"},
    },
]


class Story:
    """A shop on which something has happened."""

    def __init__(self, shop: Shop) -> None:
        server = self.server = shop.server
        self.operator = key_of(server, "operator", "ann")
        self.snapshot = shop.upgrade()
        shop.sql("UPDATE users SET plan = 'team' WHERE id = 2")
        policies(server, *RULES)
        with client(server) as asked:
            for action, resource, records in [
                ("read", "shop.users", 1),
                ("send_email", "https://mail.example/send", 1),
                ("update", "shop.users", 10_000),
                ("update", "shop.users", 12),
                ("read", "shop.orders", 20),
            ]:
                asked.check(
                    action=action, resource=resource, payload={"record_count": records}, agent="support-bot"
                )
            held = asked.execute(
                "shop", "DELETE FROM users WHERE id < 2", agent="billing-bot", record_count=2
            )
            self.approval = str(held.approval_id)
            grant = ("--agent", "shop-bot", "--action", "refund", "--resource", "shop.orders")
            for more in (
                ("approvals", "grant", *grant, "--max-records", "50", "--for", "1h", "--reason", "batch 7"),
                ("signal", "silence", "add", "--kind", "drift.*", "--for", "2h", "--comment", "import"),
            ):
                made = server.command(*more)
                assert made.returncode == 0, made.stderr
            self.blocked = next(check["id"] for check in asked_checks(server) if check["verdict"] == "block")

    def pages(self) -> dict[str, str]:
        return {
            "now": "/",
            "approval": f"/approvals/{self.approval}",
            "approvals": "/approvals",
            "grants": "/grants",
            "actions": "/actions",
            "agents": "/agents",
            "agent": "/agents/support-bot",
            "action": f"/actions/{self.blocked}",
            "policies": "/policies",
            "policy": "/policies/blast_radius_limit",
            "new-policy": "/new-policy",
            "snapshots": "/snapshots",
            "snapshot": f"/snapshots/{self.snapshot}",
            "sinks": "/sinks",
            "silences": "/silences",
            "log": "/log",
            "entry": "/log/3",
            "missing": "/actions/chk_none",
        }


def asked_checks(server: object) -> list[dict[str, str]]:
    listed = server.command("log", "tail", "--kind", "check", "--json")  # type: ignore[attr-defined]
    return [json.loads(line)["body"]["decision"] for line in listed.stdout.splitlines()]


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with open_shop() as shop:
        yield Story(shop)


# What the docs show.
SHOWN = {
    "now-light-1280",
    "approval-dark-360",
    "approval-light-1280",
    "agent-dark-1280",
    "conflict-light-1280",
}


def picture(name: str) -> Path | None:
    if os.environ.get("UPDATE_SCREENSHOTS") and name in SHOWN:
        return ROOT / f"docs/img/console-{name}.png"
    return Path(folder, f"{name}.png") if (folder := os.environ.get("SCREENSHOTS")) else None


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", (1280, 800)), ("dark", (1280, 800)), ("dark", (360, 740))], ids=str
)
def test_everybody_can_use_every_page(
    story: Story, visit: Callable[..., Page], scheme: str, size: tuple[int, int]
) -> None:
    # The page's policy would not let axe in.
    page = visit(
        story.server,
        None,
        bypass_csp=True,
        color_scheme=scheme,
        viewport={"width": size[0], "height": size[1]},
        timezone_id="Europe/Berlin",
        locale="en-GB",
    )
    wrong: list[str] = []

    def look(name: str) -> None:
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for violation in found["violations"]:
            for node in violation["nodes"]:
                wrong.append(f"{name}: {violation['id']}: {node['html']} {node['failureSummary']}")
        if page.evaluate("document.documentElement.scrollWidth") > size[0]:
            wrong.append(f"{name}: wider than the screen")
        if path := picture(f"{name}-{scheme}-{size[0]}"):
            path.parent.mkdir(exist_ok=True)
            page.screenshot(path=path, full_page=True)

    page.goto("/")
    look("sign-in")
    page.get_by_label("Your key").fill(story.server.admin_key)
    page.keyboard.press("Enter")
    page.wait_for_url(story.server.url + "/")
    for name, path in story.pages().items():
        page.goto(path)
        look(name)
    page.goto(f"/snapshots/{story.snapshot}")
    page.get_by_role("button", name="What would a rollback do?").click()
    expect(page.locator("tr.differs")).to_have_count(1)
    look("conflict")
    page.goto("/policies/blast_radius_limit")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("region", name="What it would have done")).to_be_visible()
    look("replay")
    assert wrong == []


def test_an_empty_server_is_usable_too(server: object, visit: Callable[..., Page]) -> None:
    page = visit(server, server.admin_key, bypass_csp=True)  # type: ignore[attr-defined]
    for path in ("/", "/approvals", "/actions", "/policies", "/snapshots", "/sinks", "/grants", "/silences"):
        page.goto(path)
        page.add_script_tag(path=AXE)
        assert page.evaluate("axe.run()")["violations"] == []
        expect(page.locator(".empty").first).to_be_visible()
        expect(page.locator("pre").first).to_be_visible()
