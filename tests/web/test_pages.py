"""The pages in Chromium: a rollout operated by three roles, page size and accessibility."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.debian import program
from tests.support.proxy import FakeProxy
from tests.support.site import GOOD, Served, serving, spec
from xds_server.access.identity import Role
from xds_server.analysis.counts import Counts, Leg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
]
ANALYSIS = "analysis: {interval: 1s, metrics: [{name: success-rate}]}\n"
PAGES = ("/", "/routes/search", "/routes/search/kill", "/routes/search/spec", "/apply", "/proxies", "/audit")
CANDIDATE, CONTROL = Leg(route="search", variant="v2"), Leg(route="search", variant="v1")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = program("chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, is_open=False, run_rollouts=True) as found:
        yield found


def address(served: Served, path: str) -> str:
    return str(served.client.make_url(path))


async def log_in(browser: Browser, served: Served, token: str, **options: Any) -> Page:
    page = await (await browser.new_context(**options)).new_page()
    page.set_default_timeout(10_000)
    await page.goto(address(served, "/"))
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Routes")).to_be_visible()
    return page


async def run_command(page: Page, served: Served, action: str, reason: str) -> None:
    """Run a command with the buttons of the route's page and its confirmation."""
    await page.goto(address(served, "/routes/search"))
    await page.get_by_role("link", name=action, exact=True).click()
    await page.get_by_label("Reason").fill(reason)
    await page.get_by_role("button", name=f"{action} now").click()
    await expect(page.get_by_role("status")).to_contain_text("done")


async def send_counts(served: Served, failed: int) -> None:
    for _ in range(3):
        counts = {CANDIDATE: Counts(requests=100, failed=failed), CONTROL: Counts(requests=900, failed=5)}
        served.engine.analysis.count_from_proxy("chat", counts)
        await asyncio.sleep(1.1)


async def create_route(page: Page, text: str) -> None:
    """Create a route on the page; an invalid spec is shown again with its problems."""
    await page.get_by_role("link", name="Apply a spec").click()
    await page.get_by_label("Spec (YAML)").fill(text.replace("stable: v1", "stable: v9"))
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_role("alert")).to_contain_text("spec.stable")
    kept = await page.get_by_label("Spec (YAML)").input_value()
    await page.get_by_label("Spec (YAML)").fill(kept.replace("stable: v9", "stable: v1"))
    await page.get_by_role("button", name="Check only").click()
    await expect(page.get_by_role("status")).to_contain_text("route search would be created")
    await page.get_by_role("button", name="Apply").click()
    # The page is updated without a reload.
    await expect(page.locator("#phase")).to_have_text("Paused")
    await expect(page.get_by_text("waiting for an operator to resume or promote the rollout")).to_be_visible()


async def expect_forbidden(page: Page, served: Served, path: str) -> None:
    """Load a page that must be forbidden."""
    response = await page.goto(address(served, path))
    assert response is not None
    assert response.status == 403


async def test_three_roles_operate_a_rollout(site: Served) -> None:
    FakeProxy(site.hub)
    await site.apply(spec("ads", "/ads/", team="ads"))
    async with chromium() as browser:
        sam = await log_in(browser, site, site.token(Role.OPERATOR, "sam", team="search"))
        await expect(sam.get_by_role("link", name="ads")).to_have_count(0)
        await create_route(sam, spec("search", "/search/", team="search") + "  " + ANALYSIS)
        # A viewer sees the route without buttons; an operator cannot open routes of another team.
        vera = await log_in(browser, site, site.token(Role.VIEWER, "vera"))
        await vera.goto(address(site, "/routes/search"))
        await expect(vera.locator("#phase")).to_have_text("Paused")
        await expect(vera.get_by_role("link", name="Abort")).to_have_count(0)
        await expect_forbidden(vera, site, "/routes/search/abort")
        await expect_forbidden(sam, site, "/routes/ads/kill")
        # The page shows the verdict with both arms.
        await vera.goto(address(site, "/routes/search"))
        await send_counts(site, 1)
        await expect(vera.get_by_role("row", name=re.compile("^success-rate"))).to_contain_text("% of 300")
        await run_command(sam, site, "Abort", "responses are worse")
        await expect(vera.locator("#phase")).to_have_text(re.compile("RolledBack"))
        await run_command(sam, site, "Retry", "fixed")
        await expect(sam.locator("#phase")).to_have_text("Paused")
        await run_command(sam, site, "Promote", "looks good")
        await expect(sam.locator("#phase")).to_have_text(re.compile("Healthy"))
        ada = await log_in(browser, site, site.token(Role.ADMIN, "ada"))
        await run_command(ada, site, "Undo", "worse after all")
        await expect(vera.locator("#phase")).to_have_text(re.compile("RolledBack"))
        assert site.engine.queries.view("search").weights["v2"] == 0
    done = site.audit_events()
    for event in (("sam", "abort", "search", "done"), ("ada", "undo", "search", "done")):
        assert event in done
    assert ("vera", "abort", "search", "refused") in done
    assert ("sam", "kill", "ads", "refused") in done


async def test_a_kill_requires_a_reason_and_is_in_the_audit_log(site: Served) -> None:
    FakeProxy(site.hub)
    await site.apply(spec("search", "/search/", team="search"))
    async with chromium() as browser:
        vera = await log_in(browser, site, site.token(Role.VIEWER, "vera"))
        await expect_forbidden(vera, site, "/routes/search/kill")
        ada = await log_in(browser, site, site.token(Role.ADMIN, "ada"))
        await ada.goto(address(site, "/routes/search/kill"))
        await ada.get_by_role("button", name="Kill now").click()
        assert site.engine.queries.view("search").kill is None
        await run_command(ada, site, "Kill", "v2 leaks names")
        assert site.engine.queries.view("search").kill is not None
        await run_command(ada, site, "Unkill", "fixed")
        await ada.goto(address(site, "/audit"))
        for text in ("refused: vera may not kill", "v2 leaks names"):
            await expect(ada.get_by_text(re.compile(text)).first).to_be_visible()
        await expect(ada.get_by_text(re.compile("The hash chain is intact"))).to_be_visible()
        await ada.get_by_role("button", name="Log out").click()
        await expect(ada.get_by_role("heading", name="Log in")).to_be_visible()
        await ada.goto(address(site, "/audit"))
        await expect(ada.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible_and_fit_on_phones(site: Served, scheme: str) -> None:
    FakeProxy(site.hub)
    await site.apply(spec("search", "/search/", team="search") + "  " + ANALYSIS)
    await site.until(lambda: site.engine.queries.view("search").phase == "Paused")
    site.engine.analysis.count_from_proxy(
        "chat", {CANDIDATE: Counts(requests=90), CONTROL: Counts(requests=900, failed=5)}
    )
    async with chromium() as browser:
        options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": 390, "height": 844}}
        page = await log_in(browser, site, site.token(Role.ADMIN), **options)
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        for path in PAGES:
            await page.goto(address(site, path))
            found = await Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide for a phone"
        assert console == [], "the Content-Security-Policy blocks nothing"


async def test_pages_work_without_javascript(site: Served) -> None:
    FakeProxy(site.hub)
    await site.apply(spec("search", "/search/", team="search"))
    await site.until(lambda: site.engine.queries.view("search").phase == "Paused")
    async with chromium() as browser:
        page = await log_in(browser, site, site.token(Role.OPERATOR), java_script_enabled=False)
        await page.goto(address(site, "/routes/search"))
        await expect(page.locator("#phase")).to_have_text("Paused")
        await run_command(page, site, "Abort", "works without JavaScript")
    assert site.engine.queries.view("search").weights["v2"] == 0


async def test_a_page_is_small_and_loads_one_style_sheet_and_one_script(site: Served) -> None:
    await site.apply(spec("search", "/search/", team="search"))
    async with chromium() as browser:
        page = await log_in(browser, site, site.token(Role.OPERATOR))
        sizes: dict[str, int] = {}

        async def record_size(response: Any) -> None:
            if "/live" not in response.url:
                sizes[response.url] = len(await response.body())

        page.on("response", record_size)
        await page.goto(address(site, "/routes/search"), wait_until="load")
        assert len(sizes) <= 3, sizes
        assert sum(sizes.values()) < 100_000, sizes


async def test_pages_can_be_used_with_the_keyboard(site: Served) -> None:
    FakeProxy(site.hub)
    await site.apply(spec("search", "/search/", team="search"))
    await site.until(lambda: site.engine.queries.view("search").phase == "Paused")
    async with chromium() as browser:
        page = await log_in(browser, site, site.token(Role.OPERATOR))
        await page.goto(address(site, "/routes/search"))
        reached = []
        for _ in range(14):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent.trim()"))
        for text in ("Skip to main content", "Routes", "Promote", "Abort", "Kill"):
            assert text in reached
        await page.locator("#act-abort").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Reason")).to_be_focused()
        await page.keyboard.type("by keys")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("done")
    assert ("operator", "abort", "search", "done") in site.audit_events()


async def test_forms_without_csrf_token_are_rejected(site: Served) -> None:
    await site.apply(GOOD)
    token = site.token(Role.OPERATOR)
    async with site.client.post("/login", data={"token": token}, allow_redirects=False) as response:
        assert response.status == 303
        cookie = response.cookies["shiftplane_session"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
    for form in ({}, {"csrf": "x"}, {"csrf": ""}):
        async with site.client.post("/routes/chat/abort", data=form, allow_redirects=False) as response:
            assert response.status == 403
    assert site.engine.queries.view("chat").phase != "RolledBack"
    # A session cookie does not authenticate API requests, which have no CSRF token.
    assert (await site.request("POST", "/v1/routes/chat/abort"))[0] == 401


async def test_a_session_ends_with_its_token(site: Served) -> None:
    token = site.token(Role.OPERATOR)
    async with site.client.post("/login", data={"token": token}, allow_redirects=False):
        pass
    async with site.client.get("/", allow_redirects=False) as response:
        assert response.status == 200
    ident = next(one.id for one in site.access.tokens())
    admin = site.token(Role.ADMIN)
    assert (await site.request("DELETE", f"/v1/tokens/{ident}", token=admin))[0] == 200
    async with site.client.get("/", allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, "/login?next=/")


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
async def test_a_login_does_not_redirect_to_other_sites(site: Served, target: str) -> None:
    form = {"token": site.token(Role.VIEWER), "next": target}
    async with site.client.post("/login", data=form, allow_redirects=False) as response:
        assert response.headers["location"] == "/"
