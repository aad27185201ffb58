"""A fake control plane with prepared responses, and a fixture that runs a command."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol

import pytest
from click.testing import CliRunner, Result

from xds_server.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Run(Protocol):
    def __call__(self, *args: str, stdin: str | None = None) -> Result: ...


class FakeControlPlane:
    """A fake control plane with responses by `METHOD path`; `requests` records requests with their bodies."""

    def __init__(self) -> None:
        self.responses: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("SHIFTPLANE_ACTOR", "tester")
    monkeypatch.setenv("SHIFTPLANE_CONFIG", str(tmp_path / "contexts" / "config.yaml"))
    for name in ("SERVER", "TOKEN", "TOKEN_FILE", "CONTEXT"):
        monkeypatch.delenv(f"SHIFTPLANE_{name}", raising=False)

    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, args, input=stdin)

    return invoke


@pytest.fixture
def control_plane() -> Iterator[FakeControlPlane]:
    fake = FakeControlPlane()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            request = f"{self.command} {self.path}"
            fake.requests.append((request, body))
            fake.headers.append({key.lower(): value for key, value in self.headers.items()})
            status, text = fake.responses.get(request, (404, '{"error": "unknown", "detail": "not found"}'))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _respond  # noqa: N815 - names that the base class requires

        def log_message(self, *_: object) -> None:
            """Log nothing, because tests check the output of commands."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()
