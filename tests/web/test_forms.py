"""Forms of the pages without a browser: what is refused is said on a page; what was written is not lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.site import GOOD, spec
from xds_server.access.identity import Role

if TYPE_CHECKING:
    from tests.support.site import Served


async def shown(served: Served, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Return status and text of a page, or of what answers a form."""
    method = "GET" if form is None else "POST"
    async with served.client.request(method, path, data=form, allow_redirects=False) as answer:
        assert answer.content_type == "text/html", await answer.text()
        return answer.status, await answer.text()


async def secret_of(served: Served, path: str) -> str:
    """Return what forms of a page must send back."""
    found = re.search(r'name="csrf" value="([^"]+)"', (await shown(served, path))[1])
    assert found is not None
    return found[1]


async def logged_in(served: Served, role: Role) -> None:
    form = {"token": served.token(role)}
    async with served.client.post("/login", data=form, allow_redirects=False) as answer:
        assert answer.status == 303


async def test_a_spec_of_another_route_comes_back_with_what_is_wrong(served: Served) -> None:
    await served.apply(GOOD)
    await logged_in(served, Role.OPERATOR)
    secret = await secret_of(served, "/routes/chat/edit")
    text = spec("other", "/other/")
    tag = served.engine.queries.spec_tag("chat")
    status, page = await shown(
        served, "/routes/chat/edit", {"csrf": secret, "tag": tag, "spec": text, "do": "apply"}
    )
    assert status == 409
    assert (
        "Nothing was changed: the file must hold the spec of route &#39;chat&#39; alone, not of other" in page
    )
    assert "prefix: /other/" in page
    assert [view.name for view in served.engine.queries.views()] == ["chat"]


async def test_what_is_refused_around_logging_in_is_said_on_a_page(served: Served) -> None:
    status, page = await shown(served, "/logout", {"csrf": "of another site"})
    assert (status, "load the page again" in page) == (403, True)
    await logged_in(served, Role.VIEWER)
    status, page = await shown(served, "/audit?before=soon")
    assert (status, "a whole number" in page) == (400, True)
