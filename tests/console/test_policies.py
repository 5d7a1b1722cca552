"""A policy is written, replayed on what happened, and enforced; what is wrong is shown; roles hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import BLOCKS, HOLDS, client, policies
from conftest import key_of

NUMBERS = count()


def ask(server: RealServer, records: int) -> str:
    # Each time another agent: one that asks the same again and again is stopped for that.
    agent = f"janitor-{next(NUMBERS)}"
    with client(server) as asked:
        result = asked.check(
            action="delete", resource="shop.users", payload={"record_count": records}, agent=agent
        )
    return str(result.verdict)


def test_written_replayed_enforced(server: RealServer, visit: Callable[..., Page]) -> None:
    for records in (3, 30, 300):
        assert ask(server, records) == "allow"
    page = visit(server, server.admin_key)
    page.get_by_role("navigation").get_by_role("link", name="Policies").click()
    page.get_by_role("link", name="Write a policy").click()
    field = page.get_by_label("The policy, as JSON")
    field.fill(json.dumps(BLOCKS | {"mode": "shadow"}))
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/policies/blast_radius_limit")
    assert ask(server, 31) == "allow", "a shadow stops nothing"
    page.get_by_role("button", name="Replay").click()
    found = page.get_by_role("region", name="What it would have done")
    expect(found).to_contain_text("It matches 3 of 4 recorded actions")
    expect(found).to_contain_text("3 allow→block")
    expect(found.locator("tbody tr")).to_have_count(3)
    field.fill(field.input_value().replace("25", "100"))
    page.get_by_role("button", name="Replay").click()
    expect(found).to_contain_text("It matches 1 of 4")
    page.get_by_role("button", name="Save and enforce").click()
    expect(page.locator("h1 .tag")).to_have_count(0)
    assert ask(server, 30) == "allow"
    assert ask(server, 101) == "block"
    page.get_by_role("navigation").get_by_role("link", name="Policies").click()
    expect(page.locator("#list")).to_contain_text("enforced")
    page.get_by_role("link", name="blast_radius_limit").click()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/policies")
    assert ask(server, 101) == "allow"


def test_what_is_wrong_is_shown_and_nothing_lost(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server, server.admin_key, java_script_enabled=False)
    for text, why in [
        ("{", "not JSON"),
        ('{"name": "a", "rule": "block", "condition": {"acton": "x"}}', "action"),
        ('{"name": "a", "name": "b"}', "not JSON"),
        ("[]", ""),
    ]:
        page.goto("/new-policy")
        page.get_by_label("The policy, as JSON").fill(text)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text(why)
        expect(page.get_by_label("The policy, as JSON")).to_have_value(text)
    assert json.loads(server.command("policy", "list", "--json").stdout)["policies"] == []


def test_two_admins_do_not_overwrite_each_other(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, BLOCKS)
    page = visit(server, server.admin_key)
    page.goto("/policies/blast_radius_limit")
    policies(server, BLOCKS | {"description": "of somebody else"})
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody changed it since you opened this page")
    expect(page.get_by_role("alert")).to_contain_text("of somebody else")


def test_an_operator_looks_and_replays_and_changes_nothing(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    policies(server, HOLDS)
    page = visit(server, key_of(server, "operator", "ann"))
    page.goto("/policies/refunds_need_a_person")
    expect(page.get_by_role("button", name="Replay")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    # The server does not rely on what its page shows.
    page.eval_on_selector("button[value=replay]", "button => { button.value = 'delete'; }")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("alert")).to_contain_text("role admin")
    page.goto("/policies/refunds_need_a_person")
