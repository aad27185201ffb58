"""The pages in a real Chromium: a rollout driven by three roles, what a page weighs, and who can read it."""

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
JUDGED = "analysis: {interval: 1s, metrics: [{name: success-rate}]}\n"
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
async def living(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, is_open=False, alive=True) as found:
        yield found


def address(served: Served, path: str) -> str:
    return str(served.client.make_url(path))


async def logged_in(browser: Browser, served: Served, token: str, **how: Any) -> Page:
    page = await (await browser.new_context(**how)).new_page()
    page.set_default_timeout(10_000)
    await page.goto(address(served, "/"))
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Routes")).to_be_visible()
    return page


async def told(page: Page, served: Served, action: str, reason: str) -> None:
    """Press a button of the route's page, say why, and come back to it."""
    await page.goto(address(served, "/routes/search"))
    await page.get_by_role("link", name=action, exact=True).click()
    await page.get_by_label("Why").fill(reason)
    await page.get_by_role("button", name=f"{action} now").click()
    await expect(page.get_by_role("status")).to_contain_text("done")


async def counted(served: Served, failed: int) -> None:
    for _ in range(3):
        counts = {CANDIDATE: Counts(requests=100, failed=failed), CONTROL: Counts(requests=900, failed=5)}
        served.engine.analysis.count_from_proxy("chat", counts)
        await asyncio.sleep(1.1)


async def created(page: Page, text: str) -> None:
    """Write a spec on the page: what is wrong is said with its place, and nothing is lost."""
    await page.get_by_role("link", name="Apply a spec").click()
    await page.get_by_label("Spec (YAML)").fill(text.replace("stable: v1", "stable: v9"))
    await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_role("alert")).to_contain_text("spec.stable")
    kept = await page.get_by_label("Spec (YAML)").input_value()
    await page.get_by_label("Spec (YAML)").fill(kept.replace("stable: v9", "stable: v1"))
    await page.get_by_role("button", name="Check only").click()
    await expect(page.get_by_role("status")).to_contain_text("route search would be created")
    await page.get_by_role("button", name="Apply").click()
    # The step is held without anybody loading the page again.
    await expect(page.locator("#phase")).to_have_text("Paused")
    await expect(page.get_by_text("waits for somebody to promote it")).to_be_visible()


async def forbidden(page: Page, served: Served, path: str) -> None:
    """See a page that may not be seen."""
    answer = await page.goto(address(served, path))
    assert answer is not None
    assert answer.status == 403


async def test_three_roles_and_a_rollout(living: Served) -> None:
    FakeProxy(living.hub)
    await living.apply(spec("ads", "/ads/", team="ads"))
    async with chromium() as browser:
        sam = await logged_in(browser, living, living.token(Role.OPERATOR, "sam", team="search"))
        await expect(sam.get_by_role("link", name="ads")).to_have_count(0)
        await created(sam, spec("search", "/search/", team="search") + "  " + JUDGED)
        # A viewer sees it and finds nothing to press; nobody touches another team's.
        vera = await logged_in(browser, living, living.token(Role.VIEWER, "vera"))
        await vera.goto(address(living, "/routes/search"))
        await expect(vera.locator("#phase")).to_have_text("Paused")
        await expect(vera.get_by_role("link", name="Abort")).to_have_count(0)
        await forbidden(vera, living, "/routes/search/abort")
        await forbidden(sam, living, "/routes/ads/kill")
        # The verdict is on the page of whoever looks, with both arms.
        await vera.goto(address(living, "/routes/search"))
        await counted(living, 1)
        await expect(vera.get_by_role("row", name=re.compile("^success-rate"))).to_contain_text("% of 300")
        await told(sam, living, "Abort", "answers are worse")
        await expect(vera.locator("#phase")).to_have_text(re.compile("RolledBack"))
        await told(sam, living, "Retry", "mended")
        await expect(sam.locator("#phase")).to_have_text("Paused")
        await told(sam, living, "Promote", "looks good")
        await expect(sam.locator("#phase")).to_have_text(re.compile("Healthy"))
        ada = await logged_in(browser, living, living.token(Role.ADMIN, "ada"))
        await told(ada, living, "Undo", "worse after all")
        await expect(vera.locator("#phase")).to_have_text(re.compile("RolledBack"))
        assert living.engine.queries.view("search").weights["v2"] == 0
    done = living.deeds()
    for deed in (("sam", "abort", "search", "done"), ("ada", "undo", "search", "done")):
        assert deed in done
    assert ("vera", "abort", "search", "refused") in done
    assert ("sam", "kill", "ads", "refused") in done


async def test_a_kill_takes_a_reason_and_the_audit_says_it_all(living: Served) -> None:
    FakeProxy(living.hub)
    await living.apply(spec("search", "/search/", team="search"))
    async with chromium() as browser:
        vera = await logged_in(browser, living, living.token(Role.VIEWER, "vera"))
        await forbidden(vera, living, "/routes/search/kill")
        ada = await logged_in(browser, living, living.token(Role.ADMIN, "ada"))
        await ada.goto(address(living, "/routes/search/kill"))
        await ada.get_by_role("button", name="Kill now").click()
        assert living.engine.queries.view("search").kill is None
        await told(ada, living, "Kill", "v2 leaks names")
        assert living.engine.queries.view("search").kill is not None
        await told(ada, living, "Take the kill back", "mended")
        await ada.goto(address(living, "/audit"))
        for words in ("refused: vera may not kill", "v2 leaks names"):
            await expect(ada.get_by_text(re.compile(words)).first).to_be_visible()
        await expect(ada.get_by_text(re.compile("The chain holds"))).to_be_visible()
        await ada.get_by_role("button", name="Log out").click()
        await expect(ada.get_by_role("heading", name="Log in")).to_be_visible()
        await ada.goto(address(living, "/audit"))
        await expect(ada.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_and_phones_need_no_sideways(living: Served, scheme: str) -> None:
    FakeProxy(living.hub)
    await living.apply(spec("search", "/search/", team="search") + "  " + JUDGED)
    await living.until(lambda: living.engine.queries.view("search").phase == "Paused")
    living.engine.analysis.count_from_proxy(
        "chat", {CANDIDATE: Counts(requests=90), CONTROL: Counts(requests=900, failed=5)}
    )
    async with chromium() as browser:
        how: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": 390, "height": 844}}
        page = await logged_in(browser, living, living.token(Role.ADMIN), **how)
        noted: list[str] = []
        page.on("console", lambda message: noted.append(message.text))
        for path in PAGES:
            await page.goto(address(living, path))
            found = await Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            wide = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide for a phone"
        assert noted == [], "the policy of the pages forbids nothing they use"


async def test_without_scripts_everything_can_be_read_and_done(living: Served) -> None:
    FakeProxy(living.hub)
    await living.apply(spec("search", "/search/", team="search"))
    await living.until(lambda: living.engine.queries.view("search").phase == "Paused")
    async with chromium() as browser:
        page = await logged_in(browser, living, living.token(Role.OPERATOR), java_script_enabled=False)
        await page.goto(address(living, "/routes/search"))
        await expect(page.locator("#phase")).to_have_text("Paused")
        await told(page, living, "Abort", "no scripts needed")
    assert living.engine.queries.view("search").weights["v2"] == 0


async def test_a_page_is_light_and_comes_with_one_style_and_one_script(living: Served) -> None:
    await living.apply(spec("search", "/search/", team="search"))
    async with chromium() as browser:
        page = await logged_in(browser, living, living.token(Role.OPERATOR))
        sizes: dict[str, int] = {}

        async def weigh(response: Any) -> None:
            if "/live" not in response.url:
                sizes[response.url] = len(await response.body())

        page.on("response", weigh)
        await page.goto(address(living, "/routes/search"), wait_until="load")
        assert len(sizes) <= 3, sizes
        assert sum(sizes.values()) < 100_000, sizes


async def test_keys_alone_reach_everything(living: Served) -> None:
    FakeProxy(living.hub)
    await living.apply(spec("search", "/search/", team="search"))
    await living.until(lambda: living.engine.queries.view("search").phase == "Paused")
    async with chromium() as browser:
        page = await logged_in(browser, living, living.token(Role.OPERATOR))
        await page.goto(address(living, "/routes/search"))
        reached = []
        for _ in range(14):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent.trim()"))
        for words in ("Skip to the content", "Routes", "Promote", "Abort", "Kill"):
            assert words in reached
        await page.locator("#act-abort").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Why")).to_be_focused()
        await page.keyboard.type("by keys")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("done")
    assert ("operator", "abort", "search", "done") in living.deeds()


async def test_forms_of_other_pages_are_refused(living: Served) -> None:
    await living.apply(GOOD)
    token = living.token(Role.OPERATOR)
    async with living.client.post("/login", data={"token": token}, allow_redirects=False) as answer:
        assert answer.status == 303
        cookie = answer.cookies["shiftplane_session"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
    for form in ({}, {"csrf": "x"}, {"csrf": ""}):
        async with living.client.post("/routes/chat/abort", data=form, allow_redirects=False) as answer:
            assert answer.status == 403
    assert living.engine.queries.view("chat").phase != "RolledBack"
    # Nor does a login open the API, where no form's secret protects it.
    assert (await living.ask("POST", "/v1/routes/chat/abort"))[0] == 401


async def test_a_login_ends_with_its_token(living: Served) -> None:
    token = living.token(Role.OPERATOR)
    async with living.client.post("/login", data={"token": token}, allow_redirects=False):
        pass
    async with living.client.get("/", allow_redirects=False) as answer:
        assert answer.status == 200
    ident = next(one.id for one in living.access.tokens())
    admin = living.token(Role.ADMIN)
    assert (await living.ask("DELETE", f"/v1/tokens/{ident}", token=admin))[0] == 200
    async with living.client.get("/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["location"]) == (302, "/login?next=/")


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
async def test_a_login_leads_nowhere_else(living: Served, target: str) -> None:
    form = {"token": living.token(Role.VIEWER), "next": target}
    async with living.client.post("/login", data=form, allow_redirects=False) as answer:
        assert answer.headers["location"] == "/"
