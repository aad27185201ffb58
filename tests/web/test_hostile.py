"""What somebody hostile tries over HTTP: each of these once worked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.site import GOOD, spec
from xds_server.identity import Role

if TYPE_CHECKING:
    from tests.support.site import Served


async def test_a_refused_command_sent_again_with_its_key_is_refused_again(served: Served) -> None:
    await served.apply(spec("ads", "/ads/", team="ads"))
    token = served.token(Role.VIEWER, "sam", team="search")
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k"}, "json": {"reason": "x"}}
    for _ in range(2):
        status, said, headers = await served.ask("POST", "/v1/routes/ads/kill", **send)
        assert status == 403
        assert "idempotent-replayed" not in headers
        assert "weights" not in said


async def test_what_the_phase_did_not_allow_is_not_taken_for_done_when_it_is_sent_again(
    served: Served,
) -> None:
    await served.apply(GOOD)
    send: dict[str, Any] = {"token": served.token(Role.OPERATOR), "headers": {"idempotency-key": "k"}}
    for _ in range(2):
        assert (await served.ask("POST", "/v1/routes/chat/unkill", **send))[0] == 409
    kill = {"token": send["token"], "json": {"reason": "why"}}
    assert (await served.ask("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    status, said, headers = await served.ask("POST", "/v1/routes/chat/unkill", **send)
    assert (status, said["kill"], "idempotent-replayed" in headers) == (200, None, False)


async def test_a_key_shows_no_route_that_is_somebody_elses_by_now(served: Served) -> None:
    await served.apply(spec("chat", team="search"))
    token = served.token(Role.OPERATOR, "sam", team="search")
    send: dict[str, Any] = {"token": token, "headers": {"idempotency-key": "k"}}
    assert (await served.ask("POST", "/v1/routes/chat/pause", **send))[0] == 200
    await served.apply(spec("chat", team="ads"))
    assert (await served.ask("POST", "/v1/routes/chat/pause", **send))[0] == 403


async def test_a_large_spec_keeps_nobody_waiting_while_it_is_read(served: Served) -> None:
    await served.apply(GOOD)
    token, large = served.token(Role.OPERATOR), f"a: [{'1,' * 150_000}1]\n"
    reading = asyncio.create_task(served.ask("POST", "/v1/routes", token=token, data=large))
    await served.until(served.engine._reads.locked)
    kill: dict[str, Any] = {"token": token, "json": {"reason": "why"}}
    assert (await served.ask("POST", "/v1/routes/chat/kill", **kill))[0] == 200
    assert not reading.done(), "the kill did not wait for the spec"
    assert (await reading)[0] == 422


async def test_a_spec_of_whoever_may_apply_none_is_not_even_read(served: Served) -> None:
    token, wrong = served.token(Role.VIEWER, "vera"), "a: ["
    for method, path in (("POST", "/v1/routes"), ("PUT", "/v1/routes/chat/spec")):
        status, said, _ = await served.ask(method, path, token=token, data=wrong)
        assert (status, "problems" in said) == (403, False)
    assert [deed[:2] for deed in served.deeds() if deed[3] == "refused"] == [("vera", "apply")] * 2
