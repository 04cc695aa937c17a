"""Fixtures of tests that drive the page in a real browser: Debian's Chromium, by playwright."""

import contextlib
import os
import shutil
import socket
from collections import namedtuple

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 180_000  # milliseconds: a machine may be slow or fully loaded

PHONE = {"width": 390, "height": 844}

Site = namedtuple("Site", "address store port")


def skip_or_fail(reason):
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        skip_or_fail("playwright is not installed")
    if CHROMIUM is None:
        skip_or_fail("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def visit(browser, site):
    """Open the page as a new visitor; at the end nothing may have gone wrong in the browser."""
    wrong, hosts = [], set()

    def note(line):
        """Keep an error; Gradio's own, where it cancels an event that has just ended, changes nothing."""
        if line.type == "error" and not line.location["url"].endswith(("/gradio_api/cancel", "/gradio_api/reset")):
            wrong.append(f"{line.text} {line.location['url']}")

    with contextlib.ExitStack() as stack:

        def open_page(path="/", address=site.address, **options):
            context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | options))
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", note)
            page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
            page.goto(address + path)
            page.locator("#cost p, #a-message p, #b-message p, #result section").first.wait_for()
            return page

        yield open_page
    assert not wrong, wrong
    assert all(host.startswith("127.0.0.1") or not host for host in hosts)  # it works without any other


def box(page, id):
    return page.locator(f"#{id} input, #{id} textarea").first


def fill(page, id, value):
    box(page, id).fill(str(value))
    box(page, id).press("Tab")


def shoot(page, name):
    """Keep a picture of the page, where somebody wants to look at it."""
    if folder := os.environ.get("INFODIST_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
