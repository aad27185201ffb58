"""Which requests a new route takes from another one."""

from __future__ import annotations

import pytest

from tests.support.site import GOOD
from xds_server.engine.claims import takes_from
from xds_server.spec import ModelRoute, load


def claiming(match: str, group: str = "chat") -> ModelRoute:
    text = GOOD.replace("match: {path: {prefix: /v1/}}", f"match: {match}")
    loaded = load(text.replace("group: chat", f"group: {group}"), file="x")
    assert loaded.problems == ()
    return loaded.routes[0]


@pytest.mark.parametrize(
    ("new", "other", "takes"),
    [
        ("{path: {prefix: /ads/v1/}}", "{path: {prefix: /ads/}}", True),
        (
            "{path: {prefix: /}}",
            "{path: {prefix: /ads/}}",
            False,
        ),  # the other path is longer and is matched first
        ("{path: {exact: /ads/x}}", "{path: {prefix: /ads/}}", True),
        ("{path: {exact: /ads}}", "{path: {prefix: /ads/}}", False),
        ("{path: {prefix: /ads/x}}", "{path: {exact: /ads/x}}", False),
        ("{path: {prefix: /search/}}", "{path: {prefix: /ads/}}", False),
        # The narrower host is matched first, whatever the paths.
        ("{hosts: [a.example.com], path: {prefix: /}}", "{path: {prefix: /ads/}}", True),
        (
            "{hosts: [a.example.com], path: {prefix: /}}",
            "{hosts: ['*.example.com'], path: {prefix: /ads/}}",
            True,
        ),
        (
            "{hosts: [A.example.com], path: {prefix: /ads/x}}",
            "{hosts: [a.EXAMPLE.com], path: {prefix: /ads/}}",
            True,
        ),
        ("{hosts: [b.other.com], path: {prefix: /}}", "{hosts: ['*.example.com'], path: {prefix: /}}", False),
        ("{hosts: ['*'], path: {prefix: /ads/x}}", "{hosts: [a.example.com], path: {prefix: /ads/}}", False),
    ],
)
def test_the_more_specific_claim_takes_requests(new: str, other: str, takes: bool) -> None:
    assert takes_from(claiming(new), claiming(other)) is takes
    assert not takes_from(claiming(new, group="elsewhere"), claiming(other)), "other proxies, other requests"
