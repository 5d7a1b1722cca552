"""People sign in with their organisation's provider: one that others wrote, in a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from real_server import RealServer, serving

from agents import HOLDS, Waiting, policies
from conftest import ROOT, key_of

SECRET = "a secret of more than 32 bytes, for tests"
PEOPLE = {
    "ann": {"email": "ann@example.com", "email_verified": True, "groups": ["staff", "sre"]},
    "pat": {"email": "pat@example.com", "email_verified": True, "groups": ["platform", "sre"]},
    "guest": {"email": "guest@example.com", "email_verified": True, "groups": ["staff"]},
    "mallory": {"email": "pat@example.com", "email_verified": False, "groups": ["platform"]},
}


@contextlib.contextmanager
def providing(redirect: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    node = ROOT / ".cache/node/bin/node"
    program = str(node) if node.exists() else shutil.which("node")
    assert program, "scripts/setup installs Node"
    with subprocess.Popen(
        [program, ROOT / "tests/console/provider.mjs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("NODE_")},
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps({"redirect": redirect, "secret": SECRET, "people": PEOPLE}) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
            assert line, "scripts/setup installs the provider into .cache/oidc"
            yield json.loads(line)["issuer"], child
        finally:
            child.kill()


@pytest.fixture
def signing_on(tmp_path: Path) -> Iterator[tuple[RealServer, subprocess.Popen[str]]]:
    """Checkrein, and the provider that it believes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{free.getsockname()[1]}"
    with providing(f"http://{at}/sign-in/oidc/callback") as (issuer, provider):
        (tmp_path / "secret").write_text(SECRET)
        config = tmp_path / "checkrein.toml"
        config.write_text(
            f"""
            [server]
            public_url = "http://{at}"
            [drift]
            mode = "alert"
            [console.oidc]
            issuer = "{issuer}"
            client_id = "checkrein"
            client_secret = {{ file = "secret" }}
            name = "Acme"
            scopes = ["openid", "email", "groups"]
            roles_claim = "groups"
            roles = {{ sre = "operator", platform = "admin" }}
            allow_private = true
            timeout = "30s"
            """
        )
        with serving(config, listen=at) as server:
            yield server, provider


def sign_on(page: Page, who: str, path: str = "/") -> None:
    """As a person does: the page that was asked for, the button, the provider's form, its question."""
    # The provider's page names a font from elsewhere.
    page.route("**/*fonts*/**", lambda route: route.abort())
    page.goto(path)
    page.get_by_role("link", name="Sign in with Acme").click()
    page.get_by_placeholder("Enter any login").fill(who)
    page.get_by_placeholder("and password").fill("anything")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_a_person_signs_in_decides_and_is_on_record(
    signing_on: tuple[RealServer, subprocess.Popen[str]], visit: Callable[..., Page]
) -> None:
    server, _ = signing_on
    policies(server, HOLDS)
    agent = Waiting(server)
    page = visit(server)
    sign_on(page, "ann", f"/approvals/{agent.approval_id}")
    page.wait_for_url(f"{server.url}/approvals/{agent.approval_id}")
    expect(page.locator(".who")).to_contain_text("oidc:ann@example.com operator")
    names = {cookie["name"]: cookie for cookie in page.context.cookies(server.url)}
    assert "checkrein-sign-in" not in names, "it is over"
    assert (names["checkrein"]["httpOnly"], names["checkrein"]["sameSite"]) == (True, "Lax")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#answer")).to_contain_text("by oidc:ann@example.com")
    agent.end()
    assert agent.ran
    shown = json.loads(server.command("approvals", "show", agent.approval_id, "--json").stdout)
    by = shown["decided_by"]
    assert (by["name"], by["via"], by["role"]) == ("oidc:ann@example.com", "oidc", "operator")
    assert by["key_id"].startswith("oidc:http://localhost:")
    assert by["key_id"].endswith("#ann")
    assert "oidc:ann@example.com" in server.command("log", "tail").stdout


def test_a_role_is_what_the_configuration_says(
    signing_on: tuple[RealServer, subprocess.Popen[str]], visit: Callable[..., Page]
) -> None:
    server, _ = signing_on
    policies(server, HOLDS)
    for who, may in (("ann", False), ("pat", True)):
        page = visit(server)
        sign_on(page, who, "/policies/refunds_need_a_person")
        page.wait_for_url("**/policies/refunds_need_a_person")
        fields = {
            name: str(page.locator(f"input[name={name}]").first.get_attribute("value"))
            for name in ("token", "was")
            if page.locator(f"input[name={name}]").count()
        }
        text = json.dumps({**HOLDS, "mode": "shadow"})
        sent = page.request.post(
            "/policies/refunds_need_a_person",
            form={**fields, "text": text, "do": "save"},
            headers={"origin": server.url},
        )
        assert (sent.status == 403) != may, sent.text()
        if not may:
            assert "this needs the role admin" in sent.text()
    for who, why in (("guest", "has no role here"), ("mallory", "was verified")):
        page = visit(server)
        sign_on(page, who)
        expect(page.get_by_role("alert")).to_contain_text(why)
        page.goto("/")
        assert "/sign-in" in page.url


def test_two_people_are_two_people(
    signing_on: tuple[RealServer, subprocess.Popen[str]], visit: Callable[..., Page]
) -> None:
    server, _ = signing_on
    policies(server, {**HOLDS, "approvals": 2})
    agent = Waiting(server)
    path = f"/approvals/{agent.approval_id}"
    for begin, answers in (("ann", "1 of 2"), ("pat", "by oidc:pat@example.com")):
        page = visit(server)
        sign_on(page, begin, path)
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("main")).to_contain_text(answers)
        if begin == "ann":
            # Her key is hers, too.
            made = server.command("keys", "create", "--role", "operator", "--name", "oidc:pat@example.com")
            assert made.returncode != 0
            assert "OpenID Connect" in made.stderr
            mine = visit(server, key_of(server, "operator", "ann"))
            mine.goto(path)
            mine.get_by_role("button", name="Approve").click()
            expect(mine.get_by_role("alert")).to_contain_text("approved it already")
    agent.end()
    assert agent.ran


def test_signing_out_ends_it_here_and_at_the_provider(
    signing_on: tuple[RealServer, subprocess.Popen[str]], visit: Callable[..., Page]
) -> None:
    server, _ = signing_on
    page = visit(server)
    sign_on(page, "ann", "/agents")
    page.wait_for_url("**/agents")
    [stolen] = [c["value"] for c in page.context.cookies(server.url) if c["name"] == "checkrein"]
    page.get_by_role("button", name="Sign out").click()
    # The page leads on by itself, with a script or without.
    page.wait_for_url("http://localhost:*/session/end?**")
    again = page.request.get("/agents", headers={"cookie": f"checkrein={stolen}"}, max_redirects=0)
    assert again.status == 303
    page.get_by_role("button", name="Yes, sign me out").click()
    page.wait_for_url("http://localhost:*/session/end/success**")
    # The provider knows her no more: whoever sits down here next has to say who they are.
    page.goto(server.url)
    page.get_by_role("link", name="Sign in with Acme").click()
    expect(page.get_by_placeholder("Enter any login")).to_be_visible()


def test_a_provider_that_is_down_keeps_nobody_with_a_key_out(
    signing_on: tuple[RealServer, subprocess.Popen[str]], visit: Callable[..., Page]
) -> None:
    server, provider = signing_on
    provider.kill()
    provider.wait()
    page = visit(server)
    page.goto("/agents")
    page.get_by_role("link", name="Sign in with Acme").click()
    expect(page.get_by_role("alert")).to_contain_text("Acme could not be asked")
    page.get_by_label("Your key").fill(server.admin_key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/agents")
