"""Tests of the simulated server over a real socket: vLLM's HTTP API, labels, recorded requests."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from demo.simulated import Flavour, SimulatedVllm
from tests.support.simulated import ASK, CHAT, events, instant, serving, text_of, until

if TYPE_CHECKING:
    from pathlib import Path


async def test_plain_chat_answer_has_vllms_headers_and_fields() -> None:
    async with (
        serving() as (_, session),
        session.post(CHAT, json=ASK | {"temperature": 0}, headers={"x-request-id": "r-1"}) as response,
    ):
        body = await response.read()
        document = json.loads(body)
    assert response.headers["server"] == "uvicorn"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["vary"] == "Origin"
    assert response.headers["content-length"] == str(len(body))
    assert "date" in response.headers
    assert "x-request-id" not in response.headers
    assert document["id"] == "chatcmpl-r-1"
    assert document["object"] == "chat.completion"
    assert document["model"] == "chat-large"
    (choice,) = document["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    usage = document["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_answers_get_an_id_when_the_client_sends_none() -> None:
    ids = []
    async with serving() as (_, session):
        for _attempt in range(2):
            async with session.post(CHAT, json=ASK) as response:
                ids.append((await response.json())["id"])
    assert ids[0] != ids[1]
    assert all(identity.startswith("chatcmpl-") for identity in ids)


async def test_a_stream_has_the_text_of_the_plain_answer() -> None:
    async with serving() as (_, session):
        plain = await text_of(session, temperature=0)
        async with session.post(
            CHAT, json=ASK | {"temperature": 0, "stream": True}, headers={"x-request-id": "r-2"}
        ) as response:
            received = list(events(await response.text()))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in response.headers
    assert received[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"]["content"] for event in received) == plain
    assert {event["id"] for event in received} == {"chatcmpl-r-2"}
    assert {event["object"] for event in received} == {"chat.completion.chunk"}
    assert [event["choices"][0]["finish_reason"] for event in received[-2:]] == [None, "stop"]
    assert not any("usage" in event for event in received)


async def test_include_usage_adds_one_event_without_choices() -> None:
    ask = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    async with serving() as (_, session), session.post(CHAT, json=ask) as response:
        received = list(events(await response.text()))
    assert received[-1]["choices"] == []
    assert received[-1]["usage"]["completion_tokens"] == len(received) - 2
    assert all(event["choices"] for event in received[:-1])


async def test_stream_headers_come_before_the_first_token() -> None:
    async with (
        serving(first_token=3600.0, shutdown_timeout=0.1) as (_, session),
        session.post(CHAT, json=ASK | {"stream": True}) as response,
    ):
        assert response.status == 200


async def test_paced_stream_is_whole() -> None:
    async with serving(first_token=0.005, inter_token=0.0005) as (_, session):
        plain = await text_of(session, temperature=0)
        async with session.post(CHAT, json=ASK | {"temperature": 0, "stream": True}) as response:
            received = list(events(await response.text()))
    assert "".join(event["choices"][0]["delta"]["content"] for event in received) == plain


@pytest.mark.parametrize("limit_field", ["max_tokens", "max_completion_tokens"])
async def test_token_limit_ends_the_answer_by_length(limit_field: str) -> None:
    async with (
        serving() as (_, session),
        session.post(CHAT, json=ASK | {limit_field: 3}) as response,
    ):
        document = await response.json()
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("prompt", ["Once upon a time", ["Once upon a time"], [1, 2, 3]])
async def test_completions_plain_and_streamed(prompt: object) -> None:
    ask = {"model": "chat-large", "prompt": prompt, "temperature": 0, "max_tokens": 8}
    headers = {"x-request-id": "r-3"}
    async with serving() as (_, session):
        async with session.post("/v1/completions", json=ask, headers=headers) as response:
            plain = await response.json()
        async with session.post("/v1/completions", json=ask | {"stream": True}, headers=headers) as response:
            received = list(events(await response.text()))
    assert plain["id"] == "cmpl-r-3"
    assert plain["object"] == "text_completion"
    assert plain["usage"]["completion_tokens"] == 8
    assert "".join(event["choices"][0]["text"] for event in received) == plain["choices"][0]["text"]


async def test_message_parts_and_text_beyond_ascii_are_understood() -> None:
    parts = [
        {"type": "text", "text": "Was heißt Übergröße 🙂?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    async with serving() as (_, session):
        text = await text_of(session, messages=[{"role": "user", "content": parts}], temperature=0)
    assert "übergröße" in text


BAD_REQUESTS: dict[str, object] = {
    "not JSON": b"{",
    "not an object": [],
    "no messages": {"model": "chat-large"},
    "empty messages": ASK | {"messages": []},
    "message without role": ASK | {"messages": [{"content": "x"}]},
    "content a number": ASK | {"messages": [{"role": "user", "content": 3}]},
    "text part without text": ASK | {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "temperature text": ASK | {"temperature": "hot"},
    "temperature negative": ASK | {"temperature": -1},
    "max_tokens zero": ASK | {"max_tokens": 0},
    "stream text": ASK | {"stream": "yes"},
    "stream_options without stream": ASK | {"stream_options": {"include_usage": True}},
    "stream_options text": ASK | {"stream": True, "stream_options": "usage"},
    "no choice": ASK | {"n": 0},
    "too many choices": ASK | {"n": 129},
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_bad_bodies_return_400(case: str) -> None:
    bad = BAD_REQUESTS[case]
    data = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    async with (
        serving() as (_, session),
        session.post(CHAT, data=data, headers={"content-type": "application/json"}) as response,
    ):
        error = (await response.json())["error"]
    assert response.status == 400
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "Bad Request"
    assert error["code"] == 400


async def test_a_wrong_content_type_returns_400() -> None:
    data = json.dumps(ASK).encode()
    async with (
        serving() as (_, session),
        session.post(CHAT, data=data, headers={"content-type": "text/plain"}) as response,
    ):
        assert (await response.json())["error"]["type"] == "Bad Request"
    assert response.status == 400


@pytest.mark.parametrize(
    "ask", [{"messages": [{"role": "user", "content": "x" * 4000}]}, {"max_tokens": 100}]
)
async def test_a_too_long_prompt_gets_a_json_error_even_for_a_stream(ask: dict[str, Any]) -> None:
    async with (
        serving(max_model_len=100) as (_, session),
        session.post(CHAT, json=ASK | {"stream": True} | ask) as response,
    ):
        error = (await response.json())["error"]
    assert response.status == 400
    assert error["type"] == "BadRequestError"


async def test_another_models_name_returns_404() -> None:
    async with serving() as (_, session), session.post(CHAT, json=ASK | {"model": "other"}) as response:
        error = (await response.json())["error"]
    assert response.status == 404
    assert (error["type"], error["code"]) == ("NotFoundError", 404)


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/v1/nothing", 404, "Not Found"),
        ("GET", CHAT, 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
        ("GET", "/_sim/nothing", 404, "Not Found"),
    ],
)
async def test_unknown_routes_and_methods_return_a_detail(
    method: str, path: str, status: int, detail: str
) -> None:
    async with serving() as (_, session), session.request(method, path) as response:
        assert await response.json() == {"detail": detail}
    assert response.status == status


async def test_every_response_is_labeled_as_simulated() -> None:
    async with serving(name="v2", flavour=Flavour.B) as (server, session):
        async with session.get("/version") as response:
            assert await response.json() == {"version": "0.32.0+simulated"}
        async with session.get("/v1/models") as response:
            (card,) = (await response.json())["data"]
        async with session.get("/health") as response:
            assert await response.read() == b""
        assert "simulated" in server.ready_line
        assert server.url in server.ready_line
    assert response.headers["x-simulated"] == "true"
    assert card["id"] == "chat-large"
    assert card["owned_by"] == "simulated"
    assert card["root"] == "simulated/chat-large-b"
    assert card["max_model_len"] == 32_768


async def test_metrics_count_what_was_generated() -> None:
    async with serving() as (_, session):
        await text_of(session)
        async with session.post(CHAT, json=ASK | {"max_tokens": 2}) as response:
            await response.read()
        async with session.get("/metrics") as response:
            exposed = await response.text()
    success = 'vllm:request_success_total{engine="0",finished_reason="%s",model_name="chat-large"} %s'
    assert success % ("stop", "1.0") in exposed
    assert success % ("length", "1.0") in exposed
    for family in ("time_to_first_token_seconds", "inter_token_latency_seconds", "num_requests_running"):
        assert f"# TYPE vllm:{family} " in exposed
    assert "time_per_output_token" not in exposed


async def test_large_bodies_are_read_and_larger_ones_rejected() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:," + "x" * 16_000_000}}
    upload = json.dumps(ASK | {"messages": [{"role": "user", "content": [image]}]}).encode()
    async with serving() as (server, session):
        async with session.post(
            CHAT, data=io.BytesIO(upload), headers={"content-type": "application/json"}
        ) as response:
            assert response.status == 200
        (received,) = server.log.document(only=[], limit=1)["last"]
        assert received["body_bytes"] > 16_000_000
    async with serving(max_body=1000) as (_, session), session.post(CHAT, data=b"x" * 2000) as response:
        assert response.status == 413
        assert "detail" in await response.json()


async def test_an_answer_ends_when_its_client_disconnects() -> None:
    async with serving(inter_token=60.0) as (server, session):
        async with session.post(CHAT, json=ASK | {"stream": True}) as response:
            assert (await response.content.readline()).startswith(b"data: ")
            assert server.log.running == 1
            response.close()
        await until(lambda: server.log.running == 0)
        counted = server.log.document(only=[], limit=0)
        async with session.get("/metrics") as response:
            exposed = await response.text()
    assert counted["aborted"] == 1
    assert 'vllm:num_requests_running{engine="0",model_name="chat-large"} 0.0' in exposed
    success = [line for line in exposed.splitlines() if line.startswith("vllm:request_success_total{")]
    assert success
    assert all(line.endswith(" 0.0") for line in success)
    assert f'http_requests_total{{handler="{CHAT}",method="POST",status="2xx"}} 1.0' in exposed


async def test_received_requests_can_be_listed() -> None:
    async with serving(keep_requests=3) as (_, session):
        for number in range(4):
            headers = {"x-user-id": f"user-{number % 2}", "authorization": "Bearer secret"}
            async with session.post(CHAT, json=ASK | {"stream": number == 3}, headers=headers) as response:
                await response.read()
        only = [("header", "x-user-id"), ("header", "Authorization"), ("limit", "2")]
        async with session.get("/_sim/requests", params=only) as response:
            shown = await response.json()
        async with session.get("/_sim/requests", params={"limit": "many"}) as response:
            assert response.status == 400
        async with session.delete("/_sim/requests") as response:
            assert response.status == 200
        async with session.get("/_sim/requests") as response:
            cleared = await response.json()
    assert shown["total"] == 4
    assert shown["by_path"] == {CHAT: 4}
    assert shown["by_mode"] == {"plain": 3, "stream": 1}
    assert shown["by_header"]["x-user-id"] == {"user-0": 1, "user-1": 2}
    assert [entry["headers"] for entry in shown["last"]] == [
        {"x-user-id": "user-0", "authorization": "[redacted]"},
        {"x-user-id": "user-1", "authorization": "[redacted]"},
    ]
    assert cleared["total"] == 0
    assert cleared["last"] == []


async def test_the_required_header_protects_the_api_only() -> None:
    async with serving(require_header="x-came-through") as (_, session):
        async with session.post(CHAT, json=ASK) as response:
            assert response.status == 403
            assert (await response.json())["error"]["code"] == 403
        async with session.post(CHAT, json=ASK, headers={"X-Came-Through": "yes"}) as response:
            assert response.status == 200
        async with session.get("/health") as response:
            assert response.status == 200


async def test_unix_socket_in_place_of_host_and_port(tmp_path: Path) -> None:
    path = tmp_path / "vllm.sock"
    async with (
        SimulatedVllm(instant(uds=path)) as server,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://unix/version") as response,
    ):
        assert response.status == 200
        assert server.url == f"unix:{path}"
    assert not path.exists()


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    async with serving() as (server, _):
        taken = SimulatedVllm(instant(port=int(server.url.rpartition(":")[2])))
        with pytest.raises(OSError, match="address already in use"):
            await taken.start()
