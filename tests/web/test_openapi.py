"""The API matches its OpenAPI document, which Schemathesis tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.plane import Plane, route
from xds_server.access.identity import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.site import Served

CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
SPEC = route(("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), CANARY)
SETTINGS = """\
[generation]
max-examples = 25
deterministic = true
with-security-parameters = false

[parameters]
name = ["chat", "nothing"]

[phases.coverage]
unexpected-methods = ["DELETE", "PATCH", "PUT"]

# Invalid specs, unknown routes and commands that the phase does not allow are rejected by design.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422", "503"]
"""


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    found = Plane(tmp_path)
    yield found
    found.close()


def test_schemathesis_finds_no_mismatch(plane: Plane, tmp_path: Path) -> None:
    plane.start_control_plane("--no-health-checks", collector=False)
    plane.apply(SPEC)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{plane.api.server}/v1/openapi.json",
            "--phases=examples,coverage,fuzzing",
            "--seed=7",
            "--workers=1",
            "--no-color",
            "--exclude-checks=ignored_auth",  # open mode; see tests/web/test_access.py
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-1_000:]
    assert plane.api.get("/healthz") == {"status": "ok"}


async def test_the_openapi_document_is_complete(served: Served) -> None:
    status, document, _ = await served.request("GET", "/v1/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    known = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    handled = {
        (one.method, one.resource.canonical)
        for one in served.client.app.router.routes()
        if one.resource is not None and one.method != "HEAD"
    }
    ours = {(method, path) for method, path in handled if path.startswith("/v1/")}
    assert ours - known == {("GET", "/v1/openapi.json")}
    references = json.dumps(document).count('"#/components/schemas/')
    assert references > 10
    for name in ("RouteView", "Problem", "AuditEntry"):
        assert name in document["components"]["schemas"]


async def test_every_operation_with_a_role_requires_a_token(served: Served) -> None:
    document = (await served.request("GET", "/v1/openapi.json"))[1]
    count = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not operation.get("security"):
                continue
            count += 1
            where = path.replace("{name}", "chat").replace("{id}", "0" * 12)
            assert (await served.request(method.upper(), where, data=b"{}"))[0] == 401, (method, path)
    assert count > 20
    viewer = served.token(Role.VIEWER)
    assert (await served.request("GET", "/v1/routes", token=viewer))[0] == 200


async def test_a_failing_store_gives_the_documented_response(served: Served) -> None:
    document = (await served.request("GET", "/v1/openapi.json"))[1]["paths"]
    token = served.token(Role.VIEWER)
    served.store.close()
    for path in ("/v1/routes", "/v1/audit", "/v1/whoami"):
        status, body, _ = await served.request("GET", path, token=token)
        assert (status, body["status"]) == (503, 503)
        assert "503" in document[path]["get"]["responses"]
