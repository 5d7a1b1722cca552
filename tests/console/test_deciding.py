"""A person lands, sees what an agent wants, and says yes or no; the agent goes on, or does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from real_server import RealServer, serving

from agents import HOLDS, Waiting, policies
from conftest import key_of, sign_in


def test_the_first_visit_says_what_to_type(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server)
    page.goto("/")
    expect(page.get_by_role("heading", name="Checkrein")).to_be_visible()
    sign_in(page, server.admin_key)
    expect(page.get_by_text("Nothing is waiting.")).to_be_visible()
    said = page.locator("pre").first.inner_text().splitlines()[-1]
    done = server.command(*said.removeprefix("checkrein ").split())
    assert done.returncode in (0, 1, 2, 3), done.stderr
    # The page has seen it by itself.
    expect(page.locator("#last").get_by_text("production.users").first).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
@pytest.mark.parametrize("says", ["Approve", "Deny"])
def test_a_person_decides(server: RealServer, visit: Callable[..., Page], says: str, script: bool) -> None:
    policies(server, HOLDS)
    operator = key_of(server, "operator", "ann")
    page = visit(server, operator, java_script_enabled=script)
    expect(page.get_by_text("Nothing is waiting.")).to_be_visible()
    agent = Waiting(server)
    if not script:
        page.reload()
    page.get_by_role("link", name="Look and decide").click()
    expect(page.get_by_text("billing-bot wants to refund shop.orders").first).to_be_visible()
    expect(page.get_by_label("Payload")).to_contain_text('"order": 7')
    page.get_by_label("What you want to say about it").fill("order 7:\nfaulty")
    page.get_by_role("button", name=says).click()
    expect(page.locator("#answer")).to_contain_text("by ann")
    expect(page.locator("blockquote")).to_have_text("order 7:\nfaulty")
    agent.end()
    assert agent.ran == (says == "Approve")
    if says == "Deny":
        assert "ann" in agent.result.reason


def test_two_people_at_once_make_one_decision(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, HOLDS)
    pages = [
        visit(server, key_of(server, "operator", name), java_script_enabled=False) for name in ("ann", "bob")
    ]
    agent = Waiting(server)
    for page in pages:
        page.goto(f"/approvals/{agent.approval_id}")
    pages[1].get_by_label("What you want to say about it").fill("my words")
    pages[0].get_by_role("button", name="Approve").click()
    expect(pages[0].locator("#answer")).to_contain_text("by ann")
    pages[1].get_by_role("button", name="Deny").click()
    expect(pages[1].get_by_role("alert")).to_contain_text("does not count: the approval ")
    expect(pages[1].locator("#answer")).to_contain_text("by ann")
    agent.end()
    assert agent.ran


def test_a_decision_elsewhere_shows_at_once_unless_somebody_is_writing(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    policies(server, HOLDS)
    page = visit(server, key_of(server, "operator", "ann"))
    agent = Waiting(server)
    other = Waiting(server, order=8)
    page.goto(f"/approvals/{agent.approval_id}")
    field = page.get_by_label("What you want to say about it")
    field.fill("half a sent")
    server.command("approvals", "deny", other.approval_id)
    page.wait_for_timeout(1500)
    expect(field).to_have_value("half a sent")
    server.command("approvals", "approve", agent.approval_id)
    expect(page.locator("#answer .tag")).to_have_text("approved")
    for waiting in (agent, other):
        waiting.end()


def test_what_has_expired_is_no_ones_no(
    visit: Callable[..., Page], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("config") / "checkrein.toml"
    config.write_text('[approvals]\nexpire_after = "2s"\n')
    with serving(config) as server:
        policies(server, HOLDS)
        agent = Waiting(server)
        page = visit(server, key_of(server, "operator", "ann"), java_script_enabled=False)
        page.goto(f"/approvals/{agent.approval_id}")
        button = page.get_by_role("button", name="Approve")
        agent.end()
        assert not agent.ran
        button.click()
        expect(page.get_by_role("alert")).to_contain_text("Your answer does not count")
        expect(page.locator("#answer")).to_contain_text("not a person's no")
        page.goto("/")
        expect(page.get_by_text("Nothing is waiting.")).to_be_visible()


def test_by_keyboard_alone_and_on_a_phone(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(
        server,
        None,
        viewport={"width": 360, "height": 700},
        has_touch=True,
        is_mobile=True,
    )
    page.goto(f"/approvals/{agent.approval_id}")
    page.keyboard.type(key_of(server, "operator", "ann"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/approvals/*")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing to scroll sideways"
    approve = page.get_by_role("button", name="Approve")
    box = approve.bounding_box()
    assert box is not None
    assert box["height"] >= 40
    assert box["y"] + box["height"] <= 700, "the answer is on the first screen"
    for _ in range(40):
        if approve.evaluate("button => button === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_contain_text("by ann")
    agent.end()
    assert agent.ran
