"""What guards do not cover follows from the versions of connected proxies and the server's settings."""

from __future__ import annotations

import pytest

from xds_server.view.unguarded import unguarded


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], ()),
        (["1.38.0", "1.40.1", "1.41.0", "", "unknown"], ()),
        (
            ["1.36.0", "1.40.0", "1.36.4"],
            ("Envoy 1.36 (2 proxies) counts no requests: they are not guarded",),
        ),
        (["1.35.0"], ("Envoy 1.35 (1 proxy) counts no requests: it is not guarded",)),
        (
            ["1.37.2", "1.36.0"],
            (
                "Envoy 1.36 (1 proxy) counts no requests: it is not guarded",
                "Envoy 1.37 (1 proxy) does not read streams: faults inside streamed answers are not found",
            ),
        ),
    ],
)
def test_old_proxies_are_named(versions: list[str], expected: tuple[str, ...]) -> None:
    assert unguarded(versions, token_statistics=True) == expected


def test_a_server_that_reads_no_answers_is_named_once() -> None:
    found = unguarded(["1.36.0", "1.37.0", "1.40.0"], token_statistics=False)
    assert found == (
        "Envoy 1.36 (1 proxy) counts no requests: it is not guarded",
        "proxies read no answers (serve --token-statistics off), so faults inside answers are not found",
    )
