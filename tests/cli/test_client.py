"""What the terminal shows to whom."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from xds_server.cli.client import Api, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def answering(
    status: int, headers: dict[str, str], body: bytes = b"{}"
) -> Iterator[tuple[str, list[str | None]]]:
    """Answer everything like this; yields the address, and the authorizations that were shown there."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("authorization"))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_is_not_taken_along_to_where_a_server_sends_one() -> None:
    with answering(200, {}) as (other, shown), answering(302, {"location": other}) as (server, asked):
        with pytest.raises(ApiError) as refused:
            Api(server, "spt_secret").get("/v1/whoami")
        assert refused.value.status == 302
        assert other in str(refused.value)
    assert (asked, shown) == (["Bearer spt_secret"], [])


@pytest.mark.parametrize("status", [200, 409])
def test_no_text_of_others_tells_the_terminal_anything(status: int) -> None:
    hidden = json.dumps({"detail": "a\x1b[2K\x1b[1Ab\x9bc\r", "lines": [{"d\x07": "one\n\ttwo"}]}).encode()
    with answering(status, {}, hidden) as (server, _):
        try:
            said = Api(server, "t").get("/v1/audit")
        except ApiError as error:
            said = error.body
    bad = "\ufffd"
    assert said == {"detail": f"a{bad}[2K{bad}[1Ab{bad}c{bad}", "lines": [{f"d{bad}": "one\n\ttwo"}]}
