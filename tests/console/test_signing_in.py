"""Who gets in, for how long, and what no other site can do in somebody's name."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect
from real_server import RealServer

from agents import HOLDS, Waiting, policies
from conftest import key_of, sign_in


def test_a_link_leads_back_to_its_page(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server)
    page.goto("/approvals?state=pending&agent=billing-*")
    page.get_by_label("Your key").fill(server.admin_key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/approvals?state=pending&agent=billing-*")
    for away in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
        page.goto("/sign-in?" + str(httpx.QueryParams({"next": away})))
        assert page.url.startswith(server.url + "/"), page.url


def test_agents_and_strangers_stay_outside(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server)
    for key, why in [
        (key_of(server, "agent", "bot", "billing-bot"), "the console is for people"),
        ("ck_admin_" + "0" * 64, "not known here"),
        ("<script>", "not known here"),
    ]:
        page.goto("/")
        page.get_by_label("Your key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(why)
        page.goto("/")
        assert "/sign-in" in page.url


def test_revoking_a_key_ends_its_session_at_once(server: RealServer, visit: Callable[..., Page]) -> None:
    made = json.loads(
        server.command("keys", "create", "--role", "operator", "--name", "ann", "--json").stdout
    )
    page = visit(server, made["key"])
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    assert server.command("keys", "revoke", made["id"]).returncode == 0
    # Without a click: the page finds out by itself.
    expect(page.get_by_label("Your key")).to_be_visible()


def test_signing_out_ends_the_session_on_the_server(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server, server.admin_key)
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (
        True,
        "Lax",
        "/",
    )
    stolen = {cookie["name"]: cookie["value"]}
    assert httpx.get(server.url + "/", cookies=stolen).status_code == 200
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    assert httpx.get(server.url + "/", cookies=stolen).status_code == 303
    assert (
        httpx.get(
            server.url + "/live",
            cookies=stolen,
            headers={"accept": "text/event-stream"},
        ).status_code
        == 401
    )


def test_no_other_site_decides(server: RealServer, visit: Callable[..., Page]) -> None:
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(server, key_of(server, "operator", "ann"))
    page.goto(f"/approvals/{agent.approval_id}")
    token = page.locator("#answer input[name=token]").get_attribute("value")
    [cookie] = page.context.cookies()
    where = f"{server.url}/approvals/{agent.approval_id}"

    def send(headers: dict[str, str], **fields: str) -> httpx.Response:
        cookies = {cookie["name"]: cookie["value"]}
        return httpx.post(
            where,
            data={"decision": "approve"} | fields,
            cookies=cookies,
            headers=headers,
        )

    own = {"origin": server.url}
    for headers, fields in [
        (own, {}),
        (own, {"token": "0" * 64}),
        ({"origin": "https://evil.example"}, {"token": token}),
        ({"origin": "null"}, {"token": token}),
        ({"sec-fetch-site": "cross-site"}, {"token": token}),
    ]:
        refused = send(headers, **fields)
        assert refused.status_code == 403, (headers, fields)
        assert "nothing was done" in refused.text
    assert "pending" in server.command("approvals", "show", agent.approval_id).stdout
    assert httpx.get(where, params={"decision": "approve"}).status_code == 303, "a GET never decides"
    # A page of another site in the same browser.
    form = f"<form method=post action='{where}'><button name=decision value=approve>Win</button></form>"
    page.route(
        "http://evil.example/",
        lambda route: route.fulfill(content_type="text/html", body=form),
    )
    page.goto("http://evil.example/")
    page.get_by_role("button", name="Win").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing was done")
    assert "pending" in server.command("approvals", "show", agent.approval_id).stdout
    assert send(own, token=str(token)).status_code == 303
    agent.end()
    assert agent.ran


def test_a_page_may_do_little(server: RealServer) -> None:
    answer = httpx.get(server.url + "/sign-in")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    missing = httpx.get(server.url + "/approvals/apr_<script>alert(1)</script>", follow_redirects=True)
    assert "<script>alert" not in missing.text


def test_an_error_is_a_page(server: RealServer, visit: Callable[..., Page]) -> None:
    page = visit(server)
    sign_in(page, server.admin_key)
    page.goto("/approvals/apr_none")
    expect(page.get_by_role("alert")).to_contain_text("there is no approval `apr_none`")
    page.goto("/approvals?cursor=x")
    expect(page.get_by_role("alert")).to_contain_text("cursor")
