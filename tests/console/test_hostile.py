"""What an agent says cannot break a page, hide in it, or run in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import HOLDS, Waiting, outcome, policies

NASTY = (
    "</code><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    " \u202egnp.exe\u202c \x1b[31mred"
)


def test_markup_bidi_and_escapes_are_shown_as_what_they_are(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    policies(server, HOLDS)
    agent = Waiting(server, payload={"record_count": 1, NASTY: NASTY}, session="s<b>\u202e")
    page = visit(server, server.admin_key)
    page.goto(f"/approvals/{agent.approval_id}")
    text = page.locator("main").inner_text()
    assert "<script>document.title='owned'</script>" in text
    assert "\\u202e" in text
    assert "⟨U+202E⟩" in text, "in the session"
    for hidden in ("\u202e", "\u202c", "\x1b"):
        assert hidden not in page.content()
    assert page.locator("main img, main script, main b").count() == 0
    assert "owned" not in page.title()
    server.command("approvals", "deny", agent.approval_id)
    agent.end()
    outcome(server, agent.result.id, status="error", error=NASTY)
    for place in (f"/actions/{agent.result.id}", "/log", "/actions", "/"):
        page.goto(place)
        assert "\u202e" not in page.content()
        assert page.locator("main img, main script").count() == 0
    page.goto(f"/actions/{agent.result.id}")
    expect(page.locator("#life blockquote")).to_contain_text("⟨U+001B⟩[31mred")


def test_a_large_payload_is_cut_and_can_be_had_whole(
    server: RealServer, visit: Callable[..., Page], tmp_path: Path
) -> None:
    policies(server, HOLDS)
    size = 900_000
    agent = Waiting(server, payload={"record_count": 1, "text": "x" * size})
    page = visit(server, server.admin_key)
    page.goto(f"/approvals/{agent.approval_id}")
    assert len(page.content()) < 100_000
    expect(page.get_by_text("Only the beginning is shown; the whole has 900 kB.")).to_be_visible()
    with page.expect_download() as started:
        page.get_by_role("link", name="Exactly what was asked, as JSON").click()
    file = tmp_path / "check.json"
    started.value.save_as(file)
    assert len(json.loads(file.read_text())["payload"]["text"]) == size
    server.command("approvals", "deny", agent.approval_id)
    agent.end()
