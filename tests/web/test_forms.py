"""Forms of the pages without a browser: errors are shown as pages, and input is kept."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.site import GOOD, spec
from xds_server.access.identity import Role
from xds_server.analysis.verdicts import ApiCounts, PairCounts, assess_equivalence
from xds_server.view.equivalence import equivalence_view

if TYPE_CHECKING:
    import pytest

    from tests.support.site import Served


async def load_page(served: Served, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Return status and text of a page, or of the response to a form."""
    method = "GET" if form is None else "POST"
    async with served.client.request(method, path, data=form, allow_redirects=False) as response:
        assert response.content_type == "text/html", await response.text()
        return response.status, await response.text()


async def csrf_token(served: Served, path: str) -> str:
    """Return the CSRF token of a page's form."""
    found = re.search(r'name="csrf" value="([^"]+)"', (await load_page(served, path))[1])
    assert found is not None
    return found[1]


async def log_in(served: Served, role: Role) -> None:
    form = {"token": served.token(role)}
    async with served.client.post("/login", data=form, allow_redirects=False) as response:
        assert response.status == 303


async def test_a_spec_of_another_route_is_rejected_and_shown_again(served: Served) -> None:
    await served.apply(GOOD)
    await log_in(served, Role.OPERATOR)
    secret = await csrf_token(served, "/routes/chat/edit")
    text = spec("other", "/other/")
    tag = served.engine.queries.spec_tag("chat")
    status, page = await load_page(
        served, "/routes/chat/edit", {"csrf": secret, "tag": tag, "spec": text, "do": "apply"}
    )
    assert status == 409
    assert (
        "Nothing was changed: the text must contain only the spec of route &#39;chat&#39;; "
        "it contains the specs of: other" in page
    )
    assert "prefix: /other/" in page
    assert [view.name for view in served.engine.queries.views()] == ["chat"]


async def test_an_edit_of_a_changed_or_deleted_route_names_the_next_step(served: Served) -> None:
    await served.apply(GOOD)
    await log_in(served, Role.OPERATOR)
    secret = await csrf_token(served, "/routes/chat/edit")
    form = {"csrf": secret, "tag": "old", "spec": GOOD, "do": "apply"}
    status, page = await load_page(served, "/routes/chat/edit", form)
    assert (status, "was changed in the meantime; copy your changes" in page) == (412, True)
    admin = served.token(Role.ADMIN)
    assert (await served.request("DELETE", "/v1/routes/chat", token=admin))[0] == 200
    status, page = await load_page(served, "/routes/chat/edit", form)
    assert (status, "was deleted in the meantime; to create it again" in page) == (412, True)


async def test_errors_of_login_and_queries_are_shown_as_pages(served: Served) -> None:
    status, page = await load_page(served, "/logout", {"csrf": "of another site"})
    assert (status, "reload the page" in page) == (403, True)
    await log_in(served, Role.VIEWER)
    status, page = await load_page(served, "/audit?before=soon")
    assert (status, "a whole number" in page) == (400, True)


async def test_the_page_of_a_shadow_shows_which_answers_were_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.apply(GOOD)
    await log_in(served, Role.VIEWER)
    counts = ApiCounts(
        pairs=2_000, counted=1_900, read=300, unread=1_600, unread_legs={("shadow", "unknown_format"): 1_600}
    )
    found = assess_equivalence(PairCounts(pairs=2_000, counted=1_900, apis={"messages": counts}))
    view = replace(served.engine.queries.view("chat"), equivalence=equivalence_view(found))
    monkeypatch.setattr(served.engine.queries, "view", lambda _name: view)
    _, page = await load_page(served, "/routes/chat")
    for text in ("messages", "300 of 1,900", "shadow unknown format 1,600", "Inconclusive"):
        assert text in page
