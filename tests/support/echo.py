"""A backend that returns the request it received."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Echo"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Return the body unchanged, and the request headers as JSON in one header."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer(body)

    def do_GET(self) -> None:
        """Answer a health check, or return the page configured for the path."""
        self._answer(self.server.pages.get(self.path, b"{}"))  # type: ignore[attr-defined]

    def log_message(self, *_args: Any) -> None:
        """Log nothing."""

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _answer(self, body: bytes) -> None:
        got = {name.lower(): value for name, value in self.headers.items()}
        if self.command != "GET":
            self.server.seen.append((got, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-got", json.dumps(got))
        self.end_headers()
        self.wfile.write(body)


class Echo:
    """A threaded server; `seen` lists the received headers and bodies, oldest first."""

    def __init__(self, pages: dict[str, bytes] | None = None) -> None:
        """`pages` maps a path to the response body of GET."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self._server.seen = self.seen  # type: ignore[attr-defined]
        self._server.pages = pages or {}  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """The listening address, as host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start the server."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()
