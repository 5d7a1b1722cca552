"""The log is found in, followed and verified; lists are filtered by their address."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import HOLDS, Waiting, client, outcome, policies


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_search_and_verify(server: RealServer, visit: Callable[..., Page], script: bool) -> None:
    with client(server) as asked:
        check = asked.check(action="read", resource="shop.users", agent="reader")
    page = visit(server, server.admin_key, java_script_enabled=script)
    for wanted, place in [
        (check.id, f"/actions/{check.id}"),
        ("1", "/log/1"),
        ("reader", "/agents/reader"),
        ("key_env", "/log/"),
    ]:
        page.goto("/log")
        page.get_by_label("Find").fill(wanted)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{place}*")
    page.goto("/log?q=nothing-like-that")
    expect(page.get_by_role("alert")).to_contain_text("Nothing is on record")
    page.goto("/log?kind=key.created")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Verify all").click()
    expect(page.locator("#audit")).to_contain_text("Whole:")
    expect(page.locator("#audit")).to_contain_text("--anchor")


def test_lists_are_paged_and_filtered_by_their_address(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    with client(server) as asked:
        for n in range(60):
            asked.check(action="delete" if n % 2 else "read", resource=f"shop.t{n}", agent=f"bot-{n % 3}")
    page = visit(server, server.admin_key)
    page.goto("/actions?action=delete&agent=bot-*")
    expect(page.locator("#list tbody tr")).to_have_count(30)
    page.goto("/actions")
    expect(page.locator("#list tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("#list tbody tr")).to_have_count(10)
    page.goto("/agents/bot-1?verdict=allow&category=read")
    expect(page.locator("#list tbody tr")).to_have_count(10)
    page.goto("/actions?agent=%E2%80%AE")
    expect(page.get_by_role("alert")).to_contain_text("agent")
    # Times are the viewer's.
    page = visit(server, server.admin_key, timezone_id="Asia/Tokyo", locale="en-GB")
    page.goto("/actions")
    shown = page.locator("#list time").first
    assert "UTC" not in shown.inner_text()
    assert "UTC" in str(shown.get_attribute("title"))


def test_the_life_of_an_action(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(server, server.admin_key)
    page.goto(f"/actions/{agent.result.id}")
    expect(page.locator("#what .tag")).to_have_text("hold")
    server.command("approvals", "approve", agent.approval_id, "--comment", "fine")
    agent.end()
    outcome(server, agent.result.id, status="error", error="the bank said no")
    expect(page.locator("#life")).to_contain_text("the bank said no")
    steps = page.locator("#life li").all_inner_texts()
    told = ["It was asked", "A person was asked", "Approved by", "The approval was used", "Outcome"]
    for step, words in zip(steps, told, strict=True):
        assert words in step
    # Looking used nothing up and changed nothing: the check was the agent's own.
    assert agent.ran


def test_an_agent_that_acts_seldom_is_found_where_it_acted(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    with client(server) as asked:
        seldom = asked.check(action="read", resource="shop.users", agent="seldom")

        def busy(n: int) -> None:
            asked.check(action="read", resource=f"shop.orders.{n % 7}", agent="busy")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(busy, range(2_010)))
    page = visit(server, server.admin_key, java_script_enabled=False)
    page.goto("/agents/seldom")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    expect(page.locator("#list tbody a").first).to_have_attribute("href", f"/actions/{seldom.id}")
    expect(page.locator("#normal")).to_contain_text("read 100 %")
    # Whoever does not trust that looks through all of it.
    page.get_by_role("link", name="search everything in between").click()
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.goto("/actions?agent=seldom")
    expect(page.locator("#list")).to_contain_text("and found nothing like that")
    page.get_by_role("link", name="Look further back").click()
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.goto("/log?q=seldom")
    expect(page).to_have_url(re.compile("/agents/seldom$"))
