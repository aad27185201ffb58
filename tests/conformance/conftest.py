"""Fixtures: tests with `plane` run on sessions and over a socket, tests with `delta` in both variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.links import ControlPlane, SessionControlPlane, SocketControlPlane, serving
from tests.conformance.snapshots import snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["session", "socket"])
async def plane(request: pytest.FixtureRequest) -> AsyncIterator[ControlPlane]:
    """A control plane with two clusters, a listener and a route to both."""
    if request.param == "session":
        yield SessionControlPlane(snapshot())
        return
    async with serving(snapshot()) as over_a_socket:
        yield over_a_socket


@pytest.fixture
async def socket() -> AsyncIterator[SocketControlPlane]:
    """The same control plane, over a socket only."""
    async with serving(snapshot()) as over_a_socket:
        yield over_a_socket


@pytest.fixture(params=["sotw", "delta"])
def delta(request: pytest.FixtureRequest) -> bool:
    """Whether the client uses the delta variant."""
    return bool(request.param == "delta")
