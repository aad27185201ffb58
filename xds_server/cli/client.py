"""Client of the HTTP API, exit codes, and the options that commands share."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xds_server.cli.contexts import LOCAL, resolve_server, token_for

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

__all__ = ["Api", "ApiError", "Exit", "Unreachable", "actor", "output_option", "server_option"]


_CONTROL_CHARS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Exit(IntEnum):
    """Exit codes of commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4


class ApiError(click.ClickException):
    """The control plane responded with an error; `body` is the problem document."""

    exit_code = Exit.FAILED

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body
        unexplained = (
            f"the server responded with HTTP status {status} and no error message; check that --server is "
            "the URL of a control plane"
        )
        super().__init__(str(body.get("detail") or body.get("title") or unexplained))


class Unreachable(click.ClickException):
    """No control plane responded at an address: there was no response, or it was not JSON."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(
            f"no response from a control plane at {server} ({reason}); start one with `shiftplane serve`, "
            "or set another address with --server or SHIFTPLANE_SERVER"
        )


@dataclass(frozen=True, slots=True)
class Api:
    """Client of one control plane; without `token`, it sends the token that `token_for` returns."""

    server: str
    token: str | None = field(default=None, repr=False)
    timeout: float = 15.0
    """Seconds to wait for a response."""

    def get(self, path: str) -> Any:
        """Return the JSON response of a GET request."""
        return self._call("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any], *, key: str = "") -> Any:
        """Return the JSON response of a POST request.

        With an idempotency `key`, a request without a response is sent once more.
        """
        headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
        raw = json.dumps(body).encode()
        try:
            return self._call("POST", path, raw, headers)
        except Unreachable:
            if not key:
                raise
            # The request may have been executed although no response was received; the key prevents a second
            # execution.
            return self._call("POST", path, raw, headers)

    def post_spec(self, text: str, file: str, *, dry_run: bool, reason: str = "") -> Any:
        """Apply a spec and return the JSON response."""
        headers = {
            "content-type": "application/yaml",
            "x-shiftplane-file": urllib.parse.quote(file),
            "x-shiftplane-reason": urllib.parse.quote(reason),
        }
        return self._call("POST", "/v1/routes" + ("?dryRun=true" if dry_run else ""), text.encode(), headers)

    def delete(self, path: str, *, reason: str = "") -> Any:
        """Return the JSON response of a DELETE request."""
        return self._call("DELETE", path, None, {"x-shiftplane-reason": urllib.parse.quote(reason)})

    def text(self, path: str) -> str:
        """Return the text response of a GET request."""
        return self._raw("GET", path, None, {}).decode()

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        raw = self._raw(method, path, body, headers)
        try:
            return _without_control_chars(json.loads(raw))
        except ValueError as error:
            raise Unreachable(
                self.server, f"the response is not from a control plane: {raw[:40]!r}"
            ) from error

    def _raw(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        url = self.server.rstrip("/") + path
        token = token_for(self.server) if self.token is None else self.token
        authorization = {"authorization": f"Bearer {token}"} if token else {}
        reported_user = {"x-shiftplane-actor": urllib.parse.quote(actor())}
        sent = {**reported_user, **headers, **authorization}
        request = urllib.request.Request(url, data=body, method=method, headers=sent)  # noqa: S310
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            if (location := error.headers.get("location")) and 300 <= error.code < 400:
                error.close()
                detail = f"{self.server} redirects to {location}; to use that server, pass it with --server"
                raise ApiError(error.code, {"detail": detail}) from error
            with error:
                raise ApiError(error.code, _json_or_text(error.read())) from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise Unreachable(self.server, str(getattr(error, "reason", error))) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow no redirect, because the token is only for the configured server."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _json_or_text(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {"detail": _CONTROL_CHARS.sub("\ufffd", raw.decode(errors="replace")[:500])}
    body = _without_control_chars(body)
    return body if isinstance(body, dict) else {"detail": str(body)}


def _without_control_chars(value: Any) -> Any:
    """Replace terminal control characters, which could hide lines of the audit log in a terminal."""
    match value:
        case str():
            return _CONTROL_CHARS.sub("\ufffd", value)
        case dict():
            return {_without_control_chars(key): _without_control_chars(one) for key, one in value.items()}
        case list():
            return [_without_control_chars(one) for one in value]
        case _:
            return value


def actor() -> str:
    """Return the reported user, which is recorded with a change: SHIFTPLANE_ACTOR, or user@host."""
    if configured := os.environ.get("SHIFTPLANE_ACTOR"):
        return configured
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def server_option(command: F) -> F:
    """Add the option `--server` to a command."""
    return click.option(
        "--server",
        envvar="SHIFTPLANE_SERVER",
        default=None,
        callback=lambda _ctx, _param, value: resolve_server(value),
        metavar="URL",
        help="Base URL of the control plane; also SHIFTPLANE_SERVER. "
        "Default: the server of the context named by SHIFTPLANE_CONTEXT, else of the current context, else "
        f"{LOCAL}.",
    )(command)


def output_option(command: F) -> F:
    """Add the option `-o table|json|yaml` to a command."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="Output format.",
    )(command)
