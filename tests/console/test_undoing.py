"""Rolling back from the page: planned, refused on a conflict, forced once it was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Response, expect

from agents import client, policies
from conftest import key_of
from shop import Shop, open_shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


def test_an_update_is_rolled_back_from_its_action(shop: Shop, visit: Callable[..., Page]) -> None:
    snapshot = shop.upgrade()
    assert shop.plans() == ["free"] * 5
    page = visit(shop.server, key_of(shop.server, "operator", "ann"))
    page.locator("#last tbody a").first.click()
    expect(page.locator("#life")).to_contain_text("Snapshot of 5 records")
    page.get_by_role("link", name="Look at the snapshot, and roll back").click()
    page.wait_for_url(f"**/{snapshot}")
    page.get_by_role("button", name="What would a rollback do?").click()
    expect(page.locator("table").first).to_contain_text("shop.users")
    assert shop.plans() == ["free"] * 5, "a plan changes nothing"
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.locator("#what .tag")).to_have_text("rolled back")
    assert shop.plans() == ["pro"] * 5
    expect(page.locator("#rolled")).to_contain_text("ann")
    # And the rollback is rolled back in its turn.
    page.get_by_role("link", name="roll the rollback back").click()
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.locator("#what .tag")).to_have_text("rolled back")
    assert shop.plans() == ["free"] * 5


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_a_conflict_is_shown_refused_and_then_forced(
    shop: Shop, visit: Callable[..., Page], script: bool
) -> None:
    snapshot = shop.upgrade()
    shop.sql("UPDATE users SET plan = 'team' WHERE id = 2")
    page = visit(shop.server, key_of(shop.server, "operator", "ann"), java_script_enabled=script)
    page.goto(f"/snapshots/{snapshot}")
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
    row = page.locator("tr.differs")
    expect(row).to_have_count(1)
    expect(row.locator("code")).to_have_text(["pro", "free", "team"])
    assert shop.plans() == ["free", "free", "team", "free", "free"]

    # What somebody does now, nobody has looked at.
    shop.sql("UPDATE users SET plan = 'gold' WHERE id = 4")
    page.get_by_label("Overwrite them").check()
    page.get_by_role("button", name="Roll back so").click()
    expect(page.get_by_role("alert")).to_contain_text("has changed since you looked")
    assert shop.plans() == ["free", "free", "team", "free", "gold"]
    expect(page.locator("tr.differs")).to_have_count(2)

    page.get_by_label("Overwrite them").check()
    page.get_by_role("button", name="Roll back so").click()
    expect(page.locator("#what .tag")).to_have_text("rolled back")
    expect(page.locator("#rolled")).to_contain_text("(forced)")
    assert shop.plans() == ["pro"] * 5


def test_the_others_are_rolled_back_and_a_conflict_left(shop: Shop, visit: Callable[..., Page]) -> None:
    snapshot = shop.upgrade()
    shop.sql("UPDATE users SET plan = 'team' WHERE id = 2")
    page = visit(shop.server, shop.server.admin_key)
    page.goto(f"/snapshots/{snapshot}")
    page.get_by_role("button", name="What would a rollback do?").click()
    page.get_by_label("Leave them").check()
    page.get_by_role("button", name="Roll back so").click()
    expect(page.locator("#what .tag")).to_have_text("rolled back")
    assert shop.plans() == ["pro", "pro", "team", "pro", "pro"]


def test_an_approval_shows_what_was_counted_with_its_cascade(shop: Shop, visit: Callable[..., Page]) -> None:
    policies(
        shop.server,
        {"name": "deletes", "rule": "require_approval", "condition": {"action": "delete"}},
    )
    with client(shop.server) as asked:
        held = asked.execute("shop", "DELETE FROM users WHERE id < 2", agent="billing-bot", record_count=1)
    assert held.approval_id, held
    page = visit(shop.server, shop.server.admin_key)
    page.goto(f"/approvals/{held.approval_id}")
    touched = page.get_by_role("region", name="What it touches").locator("tbody tr")
    expect(touched).to_have_count(2)
    rows = {tuple(row.split("\t")) for row in touched.all_inner_texts()}
    assert rows == {("shop.users", "delete", "2"), ("shop.orders", "cascade", "6")}
    expect(page.locator("#answer")).to_contain_text("8 records")
    expect(page.locator("#answer")).to_contain_text("the agent said 1")
    expect(page.get_by_label("Statement")).to_have_text("DELETE FROM users WHERE id < 2")
    # Some of these records, as they are now.
    users = page.get_by_role("region", name="Records of shop.users").locator("tbody tr")
    expect(users).to_have_count(2)
    expect(users.first).to_contain_text("pro")
    expect(page.get_by_role("region", name="Records of shop.orders").locator("tbody tr")).to_have_count(6)
    shop.sql("UPDATE users SET plan = '<b>gold</b>' WHERE id = 1")
    page.reload()
    expect(users.nth(1)).to_contain_text("<b>gold</b>")
    # A page that keeps itself fresh shows what it showed and reads no records again.
    answers: list[Response] = []
    page.on("response", lambda got: answers.append(got) if got.url == page.url else None)
    shop.sql("UPDATE users SET plan = 'silver' WHERE id = 1")
    other = visit(shop.server, shop.server.admin_key)
    other.goto(page.url)
    other.locator("#more summary").click()
    other.get_by_label("Say", exact=True).fill("just looking")
    other.get_by_role("button", name="Say it").click()
    expect(page.get_by_text("just looking")).to_be_visible()
    texts = [answer.text() for answer in answers]
    assert any("just looking" in text for text in texts)
    assert not any("sample-h" in text or "silver" in text for text in texts)
    expect(users.nth(1)).to_contain_text("<b>gold</b>")
    page.get_by_role("button", name="Deny").click()
    expect(page.locator("#sample")).to_have_count(0)


def test_a_long_rollback_shows_how_far_it_is(shop: Shop, visit: Callable[..., Page]) -> None:
    many = 60_000
    shop.sql(
        "WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{many + 99}) INSERT INTO users SELECT i, 'user ' || i, 'pro' FROM n"
    )
    with client(shop.server) as asked:
        ran = asked.execute("shop", "UPDATE users SET plan = 'free' WHERE id >= 100", agent="billing-bot")
    assert ran.affected == many, ran.reason
    # Whoever rolls back has a page that loads; somebody else looks on.
    page = visit(shop.server, shop.server.admin_key)
    other = visit(shop.server, shop.server.admin_key, java_script_enabled=False)
    for each in (page, other):
        each.goto(f"/snapshots/{ran.snapshot_id}")
    page.get_by_role("button", name="Roll back", exact=True).click(no_wait_after=True)
    said = ""
    while "of 60,000" not in said:
        other.reload()
        if (tag := other.locator("#what .tag")).count():
            said = tag.inner_text()
        assert said != "rolled back", "it was over before anybody saw how far it was"
    expect(other.locator("#what progress")).to_have_count(1)
    expect(page.locator("#what .tag")).to_have_text("rolled back", timeout=120_000)
    assert set(shop.plans()) == {"pro"}


def test_what_was_approved_and_ran_is_not_shown_as_blocked(shop: Shop, visit: Callable[..., Page]) -> None:
    condition = {"action": "update", "record_count_exceeds": 2}
    policies(shop.server, {"name": "ask", "rule": "require_approval", "condition": condition})
    with client(shop.server) as asked:
        held = asked.execute("shop", "UPDATE users SET plan = 'free'", agent="billing-bot")
        shop.server.command("approvals", "approve", str(held.approval_id))
        done = held.wait(timeout=60)
    assert done.executed, done
    page = visit(shop.server, shop.server.admin_key)
    first, second = page.locator("#last tbody tr").all()
    expect(first.locator(".tag")).to_have_text("allow")
    expect(second.locator(".tag")).to_have_text("approved")
    expect(second).to_contain_text(f"Already let through as {done.id}: do not run it again.")
    second.get_by_role("link", name="See that").click()
    page.wait_for_url(f"**/actions/{done.id}")
    page.goto(f"/actions/{held.id}")
    expect(page.locator("#what .tag")).to_have_text("approved")
    expect(page.locator("#life .tag").first).to_have_text("hold")
    fate = page.get_by_role("link", name="What became of it")
    expect(fate).to_have_attribute("href", f"/actions/{done.id}")
