"""The control plane's HTTP API as commands see it, and the exit codes scripts rely on."""

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

from xds_server.cli.contexts import LOCAL, resolved, token_for

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

__all__ = ["Api", "ApiError", "Exit", "Unreachable", "actor", "output_option", "server_option"]


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4


class ApiError(click.ClickException):
    """The control plane said no; `body` holds its words."""

    exit_code = Exit.REFUSED

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body
        super().__init__(
            str(body.get("detail") or body.get("title") or f"the control plane answered {status}")
        )


class Unreachable(click.ClickException):
    """No control plane answered."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(
            f"no control plane at {server} ({reason}); start one with `shiftplane serve`, "
            "or name another with --server or SHIFTPLANE_SERVER"
        )


@dataclass(frozen=True, slots=True)
class Api:
    """One control plane by its base URL; `token` is shown to it, by default the one that is kept for it."""

    server: str
    token: str | None = field(default=None, repr=False)
    patience: float = 15.0
    """Seconds an answer may take."""

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self._call("GET", path, None, {})

    def post(self, path: str, body: dict[str, Any], *, key: str = "") -> Any:
        """Return the JSON of a POST with a JSON body; with a `key` it is done once, however often sent."""
        headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
        raw = json.dumps(body).encode()
        try:
            return self._call("POST", path, raw, headers)
        except Unreachable:
            if not key:
                raise
            # The answer may have been lost, and not the question; with its key it is not done twice.
            return self._call("POST", path, raw, headers)

    def post_spec(self, text: str, file: str, *, dry_run: bool, reason: str = "") -> Any:
        """Hand a spec over and return what became of it."""
        headers = {
            "content-type": "application/yaml",
            "x-shiftplane-file": urllib.parse.quote(file),
            "x-shiftplane-reason": urllib.parse.quote(reason),
        }
        return self._call("POST", "/v1/routes" + ("?dryRun=true" if dry_run else ""), text.encode(), headers)

    def delete(self, path: str, *, reason: str = "") -> Any:
        """Return the JSON of a DELETE."""
        return self._call("DELETE", path, None, {"x-shiftplane-reason": urllib.parse.quote(reason)})

    def text(self, path: str) -> str:
        """Return the text of a GET."""
        return self._raw("GET", path, None, {}).decode()

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        raw = self._raw(method, path, body, headers)
        try:
            return _harmless(json.loads(raw))
        except ValueError as error:
            raise Unreachable(self.server, f"what answers there is another program: {raw[:40]!r}") from error

    def _raw(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        url = self.server.rstrip("/") + path
        token = token_for(self.server) if self.token is None else self.token
        shown = {"authorization": f"Bearer {token}"} if token else {}
        who = {"x-shiftplane-actor": urllib.parse.quote(actor())}
        request = urllib.request.Request(url, data=body, method=method, headers={**who, **headers, **shown})  # noqa: S310
        try:
            with urllib.request.build_opener(_Stay).open(request, timeout=self.patience) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if (elsewhere := error.headers.get("location")) and 300 <= error.code < 400:
                error.close()
                said = f"{self.server} sends to {elsewhere}; name that with --server, if it is meant"
                raise ApiError(error.code, {"detail": said}) from error
            with error:
                raise ApiError(error.code, _json_or_text(error.read())) from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise Unreachable(self.server, str(getattr(error, "reason", error))) from error


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token is for this server alone."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _json_or_text(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {"detail": _CONTROL.sub("\ufffd", raw.decode(errors="replace")[:500])}
    found = _harmless(found)
    return found if isinstance(found, dict) else {"detail": str(found)}


def _harmless(value: Any) -> Any:
    """Return JSON values without what a terminal obeys: a reason could hide lines of the audit by it."""
    match value:
        case str():
            return _CONTROL.sub("\ufffd", value)
        case dict():
            return {_harmless(key): _harmless(one) for key, one in value.items()}
        case list():
            return [_harmless(one) for one in value]
        case _:
            return value


def actor() -> str:
    """Return who is at the keyboard, for the history: SHIFTPLANE_ACTOR, or user@host."""
    if named := os.environ.get("SHIFTPLANE_ACTOR"):
        return named
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def server_option(command: F) -> F:
    """Add `--server` to a command."""
    return click.option(
        "--server",
        envvar="SHIFTPLANE_SERVER",
        default=None,
        callback=lambda _ctx, _param, value: resolved(value),
        metavar="URL",
        help="The control plane's base URL; also SHIFTPLANE_SERVER. "
        f"Default: the context in use, else {LOCAL}.",
    )(command)


def output_option(command: F) -> F:
    """Add `-o table|json|yaml` to a command."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How to print.",
    )(command)
