"""A person stops an agent, from a phone too, and lets it go on; what it normally does is drawn."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import HOLDS, Waiting, client, policies
from conftest import key_of


def asks(server: RealServer, agent: str = "billing-bot") -> tuple[str, str]:
    with client(server) as asked:
        result = asked.check(
            action="update", resource="shop.orders", payload={"record_count": 1}, agent=agent
        )
    return str(result.verdict), result.reason


def test_an_agent_is_stopped_from_a_phone_and_goes_on(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(
        server, key_of(server, "operator", "ann"), viewport={"width": 360, "height": 700}, is_mobile=True
    )
    page.get_by_role("link", name="Look and decide").click()
    page.get_by_text("Stop billing-bot, or say something").click()
    page.get_by_role("textbox", name="Why", exact=True).fill("it refunds the wrong orders")
    page.get_by_role("button", name="Stop billing-bot").click()
    expect(page.locator("#more .tag")).to_have_text("breaker open")
    stopped = page.locator("#stopped")
    expect(stopped).to_contain_text("billing-bot is stopped. A yes counts only once it goes on.")
    expect(stopped).to_contain_text("it refunds the wrong orders")
    expect(page.locator("#more summary")).to_have_text(
        "Let billing-bot go on, or say something without answering"
    )
    verdict, why = asks(server)
    assert verdict == "block"
    assert "it refunds the wrong orders" in why
    assert asks(server, "another-bot")[0] == "allow"
    page.goto("/")
    expect(page.locator("#stopped")).to_contain_text("it refunds the wrong orders")
    page.locator("#stopped").get_by_role("link", name="billing-bot").click()
    page.get_by_role("textbox", name="Why", exact=True).fill("mended")
    page.get_by_role("button", name="Let billing-bot go on").click()
    expect(page.locator("#breaker .tag")).to_have_text("breaker closed")
    assert asks(server)[0] == "allow"
    server.command("approvals", "deny", agent.approval_id)
    agent.end()


def test_every_agent_is_stopped_at_once_without_a_script(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    assert asks(server)[0] == "allow"
    page = visit(server, server.admin_key, java_script_enabled=False)
    page.goto("/agents")
    page.get_by_role("textbox", name="Why", exact=True).fill("until we know more")
    page.get_by_role("button", name="Stop every agent").click()
    expect(page.locator("#all .tag")).to_have_text("breaker open")
    assert asks(server)[0] == "block"
    assert asks(server, "never-seen")[0] == "block"
    page.goto("/")
    expect(page.locator("#stopped")).to_contain_text("every agent")


def test_a_stop_elsewhere_shows_where_somebody_is_about_to_say_yes(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(server, key_of(server, "operator", "ann"))
    page.goto(f"/approvals/{agent.approval_id}")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#stopped")).to_be_empty()
    server.command("breaker", "open", "--all", "--reason", "until we know more")
    expect(page.locator("#stopped")).to_contain_text("every agent is stopped. A yes counts only")
    server.command("breaker", "close", "--all", "--reason", "known")
    expect(page.locator("#stopped")).not_to_contain_text("stopped")
    page.get_by_role("button", name="Deny").click()
    agent.end()


def test_an_agents_page_draws_what_it_did(server: RealServer, visit: Callable[..., Page]) -> None:
    for n in range(12):
        with client(server) as asked:
            asked.check(action="read", resource=f"shop.t{n}", agent="reader")
    page = visit(server, server.admin_key)
    page.goto("/agents")
    page.get_by_role("link", name="reader").click()
    label = str(page.locator("#normal svg").get_attribute("aria-label"))
    assert "12 in all" in label
    expect(page.locator("#normal")).to_contain_text("read 100 %")
    expect(page.locator("#list tbody tr")).to_have_count(12)


def test_several_people_are_named_and_may_say_something(
    server: RealServer, visit: Callable[..., Page]
) -> None:
    policies(server, HOLDS | {"approvals": 2})
    agent = Waiting(server, key_of(server, "agent", "bot", "billing-bot"))
    pages = [visit(server, key_of(server, "operator", name)) for name in ("ann", "bob")]
    for page in pages:
        page.goto(f"/approvals/{agent.approval_id}")
    pages[0].get_by_text("Stop billing-bot, or say something").click()
    pages[0].get_by_role("textbox", name="Say", exact=True).fill("order 7 was faulty")
    pages[0].get_by_role("button", name="Say it").click()
    expect(pages[1].locator("#answer")).to_contain_text("order 7 was faulty")
    pages[0].get_by_role("button", name="Approve").click()
    expect(pages[0].locator("#answer")).to_contain_text("1 of 2 people have approved")
    pages[0].get_by_role("button", name="Approve").click()
    expect(pages[0].get_by_role("alert")).to_contain_text("somebody else must approve it as well")
    assert not agent.ran
    expect(pages[1].locator("#answer")).to_contain_text("ann approved")
    pages[1].get_by_role("button", name="Approve").click()
    expect(pages[1].locator("#answer .tag")).to_have_text("approved")
    agent.end()
    assert agent.ran
