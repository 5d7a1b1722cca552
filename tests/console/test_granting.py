"""Saying yes beforehand, and keeping signals back, from pages that need no script."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import HOLDS, client, policies
from conftest import key_of


def ask(server: RealServer, records: int) -> str:
    with client(server) as asked:
        refund = {"record_count": records}
        result = asked.check(action="refund", resource="shop.orders", payload=refund, agent="shop-bot")
    return str(result.verdict)


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_a_grant_is_given_used_and_revoked(
    server: RealServer, visit: Callable[..., Page], script: bool
) -> None:
    policies(server, HOLDS)
    assert ask(server, 1) == "hold"
    page = visit(server, key_of(server, "operator", "ann"), java_script_enabled=script)
    page.goto("/approvals")
    page.get_by_role("link", name="Grants").click()
    expect(page.locator(".empty")).to_contain_text("No grant is in force")
    for label, value in [
        ("Which agent", "shop-bot"),
        ("What it may do", "refund"),
        ("To what", "shop.orders"),
        ("Records that all uses", "50"),
        ("For how long", "8d"),
        ("Why", "faulty batch <7>"),
    ]:
        page.get_by_label(label).fill(value)
    page.get_by_label("Take the agent's own word").check()
    page.get_by_role("button", name="Grant it").click()
    # What makes no sense is said, and nothing that was written is lost.
    expect(page.get_by_role("alert")).to_contain_text("7d")
    expect(page.get_by_label("Why")).to_have_value("faulty batch <7>")
    expect(page.get_by_label("Take the agent's own word")).to_be_checked()
    page.get_by_label("For how long").fill("1h")
    page.get_by_role("button", name="Grant it").click()
    row = page.locator("#list tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("faulty batch <7>")
    expect(row).to_contain_text("ann")
    assert ask(server, 20) == "allow"
    assert ask(server, 31) == "hold", "more than is left"
    page.reload()
    expect(row).to_contain_text("20 of 50")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".empty")).to_contain_text("No grant is in force")
    assert ask(server, 1) == "hold"
    page.get_by_label("also those that are over").check()
    page.get_by_role("button", name="Show").click()
    expect(row.locator(".tag")).to_have_text("revoked")
    given = json.loads(server.command("approvals", "grants", "--all", "--json").stdout)
    assert [grant["given_by"]["name"] for grant in given["grants"]] == ["ann"]


def test_signals_are_kept_back_for_a_while(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server, key_of(server, "operator", "ann"), java_script_enabled=False)
    page.goto("/sinks")
    page.get_by_role("link", name="Silences").click()
    expect(page.locator(".empty")).to_contain_text("Nothing is kept back")
    page.get_by_label("Of which kinds").fill("drift.*, action.blocked")
    page.get_by_label("Of which agent").fill("batch-*")
    page.get_by_label("Up to which severity").select_option("warning")
    page.get_by_label("For how long").fill("31d")
    page.get_by_label("Why").fill("nightly <import>")
    page.get_by_role("button", name="Keep them back").click()
    expect(page.get_by_role("alert")).to_contain_text("30 days")
    expect(page.get_by_label("Of which kinds")).to_have_value("drift.*, action.blocked")
    expect(page.get_by_label("Up to which severity")).to_have_value("warning")
    page.get_by_label("For how long").fill("2h")
    page.get_by_role("button", name="Keep them back").click()
    row = page.locator("#list tbody tr")
    expect(row).to_contain_text("drift.*, action.blocked of batch-* up to severity warning")
    expect(row).to_contain_text("nightly <import>")
    expect(row).to_contain_text("ann")
    listed = json.loads(server.command("signal", "silence", "list", "--json").stdout)["silences"]
    assert [silence["owner"] for silence in listed] == ["ann"]
    page.get_by_role("button", name="End").click()
    expect(page.locator(".empty")).to_contain_text("Nothing is kept back")
