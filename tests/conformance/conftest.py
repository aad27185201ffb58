"""A test that takes `plane` runs on sessions and over a socket; one that takes `delta`, in both flavours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.links import Plane, SessionPlane, SocketPlane, serving
from tests.conformance.world import snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["session", "socket"])
async def plane(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    """A control plane with two clusters, a listener and a route to both."""
    if request.param == "session":
        yield SessionPlane(snapshot())
        return
    async with serving(snapshot()) as over_a_socket:
        yield over_a_socket


@pytest.fixture
async def socket() -> AsyncIterator[SocketPlane]:
    """The same, only over a socket."""
    async with serving(snapshot()) as over_a_socket:
        yield over_a_socket


@pytest.fixture(params=["sotw", "delta"])
def delta(request: pytest.FixtureRequest) -> bool:
    """Whether the client speaks the delta flavour."""
    return bool(request.param == "delta")
