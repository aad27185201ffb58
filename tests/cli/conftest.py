"""A control plane of canned answers, and a way to run a command as a user would."""

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
    def __call__(self, *words: str, stdin: str | None = None) -> Result: ...


class Canned:
    """Answers by `METHOD path`; `asked` keeps what came in, with bodies."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("SHIFTPLANE_ACTOR", "tester")
    monkeypatch.setenv("SHIFTPLANE_CONFIG", str(tmp_path / "contexts" / "config.yaml"))
    for name in ("SERVER", "TOKEN", "TOKEN_FILE", "CONTEXT"):
        monkeypatch.delenv(f"SHIFTPLANE_{name}", raising=False)

    def invoke(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, words, input=stdin)

    return invoke


@pytest.fixture
def canned() -> Iterator[Canned]:
    known = Canned()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            asked = f"{self.command} {self.path}"
            known.asked.append((asked, body))
            known.headers.append({key.lower(): value for key, value in self.headers.items()})
            status, text = known.answers.get(asked, (404, '{"error": "unknown", "detail": "no such thing"}'))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names the base class looks for

        def log_message(self, *_: object) -> None:
            """Say nothing: tests read what commands print."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()
