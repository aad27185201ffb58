"""Prompt versions in a real Envoy: the assignment of users, and the exact bytes of rewritten bodies."""

from __future__ import annotations

import gzip
import http.client
import json
from collections import Counter
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import xxhash

from tests.support.echo import Echo
from tests.support.plane import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

pytestmark = pytest.mark.e2e

TEXT = 'Say "no" \\ never\nä\U0001f989'
ESCAPED = json.dumps(TEXT, ensure_ascii=False)[1:-1]
SYSTEM = f'{{"role":"system","content":"{ESCAPED}"}}'
SPEC: dict[str, Any] = {
    "apiVersion": "shiftplane.dev/v1alpha1",
    "kind": "ModelRoute",
    "metadata": {"name": "chat"},
    "spec": {
        "proxies": {"group": "chat"},
        "backends": [{"name": "v1", "endpoints": []}],
        "stable": "v1",
        "attributes": {"org": {"header": "x-org-id"}},
        "prompt": {
            "versions": {
                "i": {"system": TEXT},
                "r": {"system": TEXT, "mode": "Replace"},
                "a": {"system": TEXT, "mode": "Append"},
            },
            "rollout": {"stickiness": {"attribute": "org"}, "weights": {"i": 0, "r": 30, "a": 10}},
            "overrides": [
                {"attribute": "org", "values": ["insert", "other one"], "version": "i"},
                {"attribute": "org", "values": ["replace"], "version": "r"},
                {"attribute": "org", "values": ["append"], "version": "a"},
            ],
        },
    },
}


class Asker:
    """One connection to a proxy."""

    def __init__(self, envoy: Envoy) -> None:
        where = urlsplit(envoy.entry)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)

    def ask(
        self, body: bytes, org: str | None = None, path: str = "/v1/chat/completions?a=b", **headers: str
    ) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body that reached the backend."""
        sent = {"content-type": "application/json"} | ({} if org is None else {"x-org-id": org})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", path, body, sent)
        answer = self._connection.getresponse()
        raw = answer.read()
        assert answer.status == 200, raw
        got = dict(json.loads(answer.headers["x-got"]))
        assert answer.headers.get("x-shiftplane-prompt") == got.get("x-shiftplane-prompt")
        return got, raw

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@pytest.fixture
def asking() -> Iterator[Callable[[Envoy], Asker]]:
    """Return a factory of connections that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda envoy: stack.enter_context(closing(Asker(envoy)))


@pytest.fixture
def backend() -> Iterator[Echo]:
    with Echo() as echo:
        yield echo


def started(plane: Plane, spec: dict[str, Any]) -> Envoy:
    plane.start_control_plane(collector=False)
    plane.apply(json.dumps(spec, ensure_ascii=False))
    envoy = plane.start_envoy()
    plane.until(lambda view: bool(view["convergence"]["acked"]))
    return envoy


def spec_for(address: str, **more: Any) -> dict[str, Any]:
    spec = json.loads(json.dumps(SPEC))
    spec["spec"]["backends"][0]["endpoints"] = [address]
    spec["spec"] |= more
    return dict(spec)


OLD_PART = '{"type":"text","text":"old"}'
USER = '{"role":"user","content":"a \\"role\\":\\"system\\" b"}'
BODIES: list[tuple[str, str, str]] = [
    ("insert", f'{{"messages":[{USER}]}}', f'{{"messages":[{SYSTEM},{USER}]}}'),
    ("insert", '{"messages": [ ] , "n":1.0}', f'{{"messages": [{SYSTEM} ] , "n":1.0}}'),
    (
        "insert",
        '{"messages":[{"role":"system","content":"old"}]}',
        f'{{"messages":[{SYSTEM},{{"role":"system","content":"old"}}]}}',
    ),
    (
        "replace",
        f'{{"messages":[{USER}, {{"content" : "old \\\\\\"x" ,"role":"system"}}]}}',
        f'{{"messages":[{USER}, {{"content" : "{ESCAPED}" ,"role":"system"}}]}}',
    ),
    (
        "replace",
        '{"messages":[{"role":"developer","content":[{"type":"text","text":"old"}]}]}',
        f'{{"messages":[{{"role":"developer","content":"{ESCAPED}"}}]}}',
    ),
    ("replace", f'{{"messages":[{USER}]}}', f'{{"messages":[{SYSTEM},{USER}]}}'),
    (
        "append",
        '{"messages":[{"role":"system","content":"old"}]}',
        f'{{"messages":[{{"role":"system","content":"old\\n\\n{ESCAPED}"}}]}}',
    ),
    (
        "append",
        '{"messages":[{"role":"system","content":""}]}',
        f'{{"messages":[{{"role":"system","content":"{ESCAPED}"}}]}}',
    ),
    (
        "append",
        '{"messages":[{"role":"system","content":[{"type":"text","text":"old"}]}]}',
        f'{{"messages":[{{"role":"system","content":[{OLD_PART},{{"type":"text","text":"{ESCAPED}"}}]}}]}}',
    ),
    (
        "append",
        '{"messages":[{"role":"system","content":[ ]}]}',
        f'{{"messages":[{{"role":"system","content":[ {{"type":"text","text":"{ESCAPED}"}}]}}]}}',
    ),
    (
        "insert",
        f'{{"tools":[{{"messages":[1]}}],"messages":[{USER}],"x":{{"messages":[]}}}}',
        f'{{"tools":[{{"messages":[1]}}],"messages":[{SYSTEM},{USER}],"x":{{"messages":[]}}}}',
    ),
]
UNTOUCHED: list[tuple[str, bytes, dict[str, str]]] = [
    ("completions", b'{"prompt":"x","model":"m"}', {}),
    ("another API", b'{"messages":[]}', {"path": "/v1/messages?x=/chat/completions"}),
    ("messages is text", b'{"messages":"x"}', {}),
    ("numbers", b'{"messages":[1,2]}', {}),
    ("cut", b'{"messages":[{"role":"user","content":"x', {}),
    ("cut list", b'{"messages":[{"role":"user"}', {}),
    ("list", b"[]", {}),
    ("empty", b"", {}),
    ("gzip", gzip.compress(b'{"messages":[]}'), {"content_encoding": "gzip"}),
    ("form", b'{"messages":[]}', {"content_type": "application/x-www-form-urlencoded"}),
]


def test_what_becomes_of_the_body(plane: Plane, backend: Echo, asking: Callable[[Envoy], Asker]) -> None:
    envoy = started(plane, spec_for(backend.address))
    asker = asking(envoy)
    for org, given, wanted in BODIES:
        headers, body = asker.ask(given.encode(), org)
        assert body.decode() == wanted, (org, given)
        assert headers["x-shiftplane-prompt"] == org[0]
        json.loads(body)
    for name, given_bytes, sent in UNTOUCHED:
        headers, body = asker.ask(given_bytes, "insert", **sent)
        assert body == given_bytes, name
        assert "x-shiftplane-prompt" not in headers, name
    _, body = asker.ask(b'{"messages":[]}', x_shiftplane_prompt="forged")
    assert body == b'{"messages":[]}', "a request without an organization has no version"
    assert "x-shiftplane-prompt" not in asker.ask(b'{"messages":[]}', x_shiftplane_prompt="forged")[0]
    large = b'{"messages":[{"role":"user","content":"' + b"x" * (4 << 20) + b'"}]}'
    _, body = asker.ask(large, "insert")
    assert len(body) == len(large) + len(SYSTEM.encode()) + 1
    errors = eventually(lambda: envoy.stats("lua.errors"), bool)
    assert set(errors.values()) == {0}


def predicted(org: str) -> str | None:
    slot = xxhash.xxh32(f"chat/prompt:{org}".encode()).intdigest() % 10_000
    return "r" if slot < 3_000 else "a" if slot < 4_000 else None


def test_the_proxy_and_the_prediction_agree_about_every_organisation(
    plane: Plane, backend: Echo, asking: Callable[[Envoy], Asker]
) -> None:
    asker = asking(started(plane, spec_for(backend.address)))
    found: Counter[str | None] = Counter()
    for number in range(2_000):
        org = "o" * (number % 40) + f"rg-{number}ä"
        headers, _ = asker.ask(b'{"messages":[]}', org.encode().decode("latin-1"))
        version = headers.get("x-shiftplane-prompt")
        assert version == predicted(org), org
        found[version] += 1
    assert 500 < found["r"] < 700
    assert 140 < found["a"] < 260


def test_the_copy_carries_the_same_prompt_once(
    plane: Plane, backend: Echo, asking: Callable[[Envoy], Asker]
) -> None:
    with Echo() as shadow:
        backends = [
            {"name": "v1", "endpoints": [backend.address], "modelNameOverride": "adapter-a"},
            {"name": "v2", "endpoints": [shadow.address], "modelNameOverride": "adapter-b"},
        ]
        spec = spec_for(
            backend.address, backends=backends, candidate="v2", strategy={"shadow": {"percentage": 100}}
        )
        envoy = started(plane, spec)
        plane.until(lambda view: view["phase"] == "Shadowing" and view["convergence"]["acked"] == 1)
        asker = asking(envoy)
        _, body = asker.ask(b'{"model":"m","messages":[]}', "insert")
        assert body.decode() == f'{{"model":"adapter-a","messages":[{SYSTEM}]}}'
        copies = eventually(lambda: [one for one in shadow.seen if one[1] != b""], bool)
        headers, copied = copies[-1]
        assert copied.decode() == f'{{"model":"adapter-b","messages":[{SYSTEM}]}}'
        assert headers["x-shiftplane-prompt"] == "i"


def test_an_adapter_is_a_backend_with_a_model_name_of_its_own(
    plane: Plane, backend: Echo, asking: Callable[[Envoy], Asker]
) -> None:
    """Two LoRA adapters of one server: the same endpoints, with users split between them."""
    backends = [
        {"name": name, "endpoints": [backend.address], "modelNameOverride": f"adapter-{name}"}
        for name in ("v1", "v2")
    ]
    spec = spec_for(
        backend.address,
        backends=backends,
        candidate="v2",
        strategy={
            "canary": {
                "stickiness": {"attribute": "org"},
                "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}],
            }
        },
    )
    del spec["spec"]["prompt"]
    envoy = started(plane, spec)
    plane.until(lambda view: view["phase"] == "Paused" and view["convergence"]["acked"] == 1)
    asker = asking(envoy)
    models = Counter(
        json.loads(asker.ask(b'{"model":"base","messages":[]}', f"org-{n}")[1])["model"] for n in range(200)
    )
    assert models.keys() == {"adapter-v1", "adapter-v2"}
    assert 60 < models["adapter-v2"] < 140
