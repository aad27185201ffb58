"""One request per API of the simulated server, and readers of its streams."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from demo.simulated.faults import parse_faults
from tests.support.simulated import ASK, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.simulated import SimulatedVllm

TOOLS = [
    {
        "name": "find_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "hours": {"type": "array", "items": {"type": "number"}},
                "options": {"type": "object", "properties": {"brief": {"type": "boolean"}}},
            },
            "required": ["city"],
        },
    },
    {"name": "open_page", "parameters": {"type": "object", "properties": {"title": {"type": "string"}}}},
]
QUESTION = "How do glaciers shape valleys?"

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "score": "/v1/score",
    "transcription": "/v1/audio/transcriptions",
    "speech": "/v1/audio/speech",
}
STREAMED = ("chat", "completions", "responses", "messages")
BODIES: dict[str, dict[str, Any]] = {
    "chat": ASK | {"temperature": 0},
    "completions": {"prompt": QUESTION, "temperature": 0, "max_tokens": 100},
    "responses": {"input": QUESTION, "temperature": 0},
    "messages": {"messages": ASK["messages"], "max_tokens": 500, "temperature": 0},
    "embeddings": {"input": [QUESTION, "What is a delta?"]},
    "rerank": {"query": QUESTION, "documents": ["Glaciers shape valleys.", "Bread needs yeast.", "Valleys."]},
    "score": {"text_1": QUESTION, "text_2": ["Glaciers shape valleys.", "Bread needs yeast."]},
    "speech": {"input": "Hello there.", "voice": "alloy"},
}
AUDIO = bytes(range(256)) * 500


def tools(api: str) -> list[dict[str, Any]]:
    """Return the tools in the form of an API."""
    match api:
        case "chat":
            return [{"type": "function", "function": tool} for tool in TOOLS]
        case "responses":
            return [{"type": "function", **tool} for tool in TOOLS]
        case _:
            return [{"name": tool["name"], "input_schema": tool["parameters"]} for tool in TOOLS]


def upload(**fields: str) -> aiohttp.FormData:
    """Return the form of a transcription."""
    form = aiohttp.FormData()
    form.add_field("file", AUDIO, filename="speech.wav", content_type="audio/wav")
    for name, value in fields.items():
        form.add_field(name, value)
    return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A response that was read to its end; ``cut`` is whether its end was missing."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    @property
    def document(self) -> Any:
        return json.loads(self.body)


async def ask(session: aiohttp.ClientSession, api: str, *, stream: bool = False, **fields: Any) -> Got:
    """Send the request of an API, changed by `fields`."""
    sent: dict[str, Any] = {"data": upload(**fields)} if api == "transcription" else {}
    if not sent:
        streamed: dict[str, Any] = {"stream": True} if stream else {}
        if stream and api in {"chat", "completions"}:
            streamed["stream_options"] = {"include_usage": True}
        sent = {"json": BODIES[api] | streamed | fields}
    headers = {"x-request-id": "r-1", "accept-encoding": "identity"}
    async with session.post(PATHS[api], headers=headers, **sent) as response:
        body, cut = bytearray(), False
        try:
            async for chunk in response.content.iter_any():
                body += chunk
        except aiohttp.ClientPayloadError:
            cut = True
        got = {name.lower(): value for name, value in response.headers.items()}
        return Got(status=response.status, headers=got, body=bytes(body), cut=cut)


def datas(body: bytes) -> list[tuple[str | None, str]]:
    """Return (name, data) of each event of a stream; comments are left out."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines.get("event"), lines["data"]))
    return found


def documents(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each event except the end mark of chat and completions."""
    for _, data in datas(body):
        if data != "[DONE]":
            yield json.loads(data)


def ended(api: str, body: bytes) -> bool:
    """Return whether a stream has the end mark of its API."""
    events = datas(body)
    if not events:
        return False
    name, data = events[-1]
    match api:
        case "responses":
            return name in {"response.completed", "response.incomplete", "response.failed"}
        case "messages":
            return name == "message_stop"
        case _:
            return data == "[DONE]"


def text(api: str, got: Got, *, stream: bool) -> str:
    """Return the text of an answer."""
    if stream:
        return "".join(_delta(api, event) for event in documents(got.body))
    document = got.document
    match api:
        case "chat":
            return str(document["choices"][0]["message"]["content"])
        case "completions":
            return str(document["choices"][0]["text"])
        case "responses":
            return "".join(part["text"] for item in document["output"] for part in item["content"])
        case _:
            return "".join(block["text"] for block in document["content"])


def _delta(api: str, event: dict[str, Any]) -> str:
    match api:
        case "chat":
            return "".join(str(choice["delta"].get("content") or "") for choice in event.get("choices", ()))
        case "completions":
            return "".join(choice["text"] for choice in event.get("choices", ()))
        case "responses":
            return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""
        case _:
            return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""


async def faulty(api: str, mode: str, *, stream: bool = False, fields: Any = None, **fault: Any) -> Got:
    """Return the response to the request of an API under a fault, after a check of the books."""
    chosen = parse_faults({"mode": mode, **fault})[0]
    async with serving(fault=chosen) as (server, session):
        got = await ask(session, api, stream=stream, **(fields or {}))
        assert booked(server) == Counter({(api, mode, got.status): 1})
    return got


def booked(server: SimulatedVllm) -> Counter[tuple[str, str, int | None]]:
    """Return the books as counts by (api, outcome, status)."""
    return Counter(
        {
            (entry["api"], entry["outcome"], entry["status"]): entry["count"]
            for entry in server.books.document()["entries"]
        }
    )
