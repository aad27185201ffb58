"""The HTTP client: redirects do not receive the token, and responses contain no control characters."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from xds_server.cli.client import Api, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def serving(
    status: int, headers: dict[str, str], body: bytes = b"{}"
) -> Iterator[tuple[str, list[str | None]]]:
    """Serve the same response to every request; yield the address and the received authorizations."""
    received: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers.get("authorization"))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_is_not_sent_to_the_target_of_a_redirect() -> None:
    with serving(200, {}) as (other, at_other), serving(302, {"location": other}) as (server, at_server):
        with pytest.raises(ApiError) as error:
            Api(server, "spt_secret").get("/v1/whoami")
        assert error.value.status == 302
        assert other in str(error.value)
    assert (at_server, at_other) == (["Bearer spt_secret"], [])


@pytest.mark.parametrize("status", [200, 409])
def test_control_characters_of_responses_are_replaced(status: int) -> None:
    hidden = json.dumps({"detail": "a\x1b[2K\x1b[1Ab\x9bc\r", "lines": [{"d\x07": "one\n\ttwo"}]}).encode()
    with serving(status, {}, hidden) as (server, _):
        try:
            body = Api(server, "t").get("/v1/audit")
        except ApiError as error:
            body = error.body
    bad = "\ufffd"
    assert body == {"detail": f"a{bad}[2K{bad}[1Ab{bad}c{bad}", "lines": [{f"d{bad}": "one\n\ttwo"}]}


def test_a_response_that_is_not_json_is_shown_as_text() -> None:
    page = ("<html>\n<body>\x1b[2K" + "x" * 100).encode()
    with serving(200, {}, page) as (server, _), pytest.raises(Unreachable) as error:
        Api(server, "t").get("/v1/routes")
    assert f"(the response is not JSON: '<html> <body>\ufffd[2K{'x' * 43}...')" in str(error.value)
