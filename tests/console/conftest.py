"""The console in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sdk/python/tests"))

from real_server import RealServer, serving  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)  # its own is 5 s, little beside other tests on two cores


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root has no sandbox, and a small /dev/shm would end the browser.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[RealServer]:
    with serving() as server:
        yield server


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Opens a page of a person's own browser. What its script or policy complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # The status of an answer is no complaint: tests look at it themselves.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def visit(server: RealServer, key: str | None = None, **options: Any) -> Page:
        context = browser.new_context(base_url=server.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if key is not None:
            sign_in(page, key)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, key: str, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**" + path)


def key_of(server: RealServer, role: str, name: str, agent: str | None = None) -> str:
    more = ["--agent", agent] if agent else []
    made = server.command("keys", "create", "--role", role, "--name", name, *more, "--json")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["key"])
