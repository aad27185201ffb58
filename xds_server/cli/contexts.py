"""Contexts: named control planes with their tokens, similar to the contexts of kubectl.

The first of these that is set selects the control plane: `--server` or SHIFTPLANE_SERVER, the context named
by SHIFTPLANE_CONTEXT, the current context. Without any of them, it is the control plane on this host. The
token is SHIFTPLANE_TOKEN, or the content of the file named by SHIFTPLANE_TOKEN_FILE, or the token of a
context with the same server, so that the token of a context is never sent to another server.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from xds_server.cli.files import read_text

__all__ = ["LOCAL", "Context", "Contexts", "ContextsError", "load", "resolve_server", "save", "token_for"]

LOCAL: Final = "http://127.0.0.1:18001"


class ContextsError(click.ClickException):
    """The contexts file is invalid or cannot be written, or a context is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The base URL and token of a control plane; `repr` omits the token."""

    server: str
    token: str = field(default="", repr=False)


@dataclass(slots=True, kw_only=True)
class Contexts:
    """All contexts by name, and the name of the current one."""

    current: str = ""
    named: dict[str, Context] = field(default_factory=dict)


def path() -> Path:
    """Return the path of the contexts file: SHIFTPLANE_CONFIG, or the default in the user's config folder."""
    if configured := os.environ.get("SHIFTPLANE_CONFIG"):
        return Path(configured)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "shiftplane" / "config.yaml"


def load() -> Contexts:
    """Return the contexts; without a file there are none.

    Raises:
        ContextsError: The file is invalid.
        UnreadableFileError: The file cannot be read, or is not UTF-8.
    """
    file = path()
    text = read_text(file, default="")
    import yaml

    try:
        document = yaml.safe_load(text) or {}
        named = {
            str(name): Context(server=_text(one["server"]), token=_text(one.get("token", "")))
            for name, one in (document.get("contexts") or {}).items()
        }
        return Contexts(current=_text(document.get("current", "")), named=named)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ContextsError(
            f"{file}: invalid contexts file; "
            "expected {current: NAME, contexts: {NAME: {server: URL, token: TEXT}}}"
        ) from error


def save(contexts: Contexts) -> Path:
    """Write the contexts atomically to a file that only its owner can read; return its path."""
    import yaml

    file = path()
    document: dict[str, Any] = {
        "current": contexts.current,
        "contexts": {
            name: {"server": one.server} | ({"token": one.token} if one.token else {})
            for name, one in contexts.named.items()
        },
    }
    new = file.with_suffix(".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(yaml.safe_dump(document, sort_keys=False))
        new.replace(file)
    except OSError as error:
        raise ContextsError(f"{file} cannot be written: {error.strerror or error}") from error
    return file


def resolve_server(server: str | None) -> str:
    """Return the base URL of the selected control plane.

    Raises:
        ContextsError: The selected context does not exist, or the file is invalid.
        UnreadableFileError: The file cannot be read, or is not UTF-8.
    """
    if server:
        return server.rstrip("/")
    contexts = load()
    selected = os.environ.get("SHIFTPLANE_CONTEXT")
    name = selected or contexts.current
    if not name:
        return LOCAL
    if name not in contexts.named:
        defined = ", ".join(contexts.named) or "none"
        if selected:
            raise ContextsError(
                f"unknown context {name!r} in SHIFTPLANE_CONTEXT; defined contexts: {defined}; "
                "correct the variable or unset it"
            )
        raise ContextsError(
            f"the current context {name!r} is not defined in {path()}; defined contexts: {defined}; "
            "select one with: shiftplane config use NAME"
        )
    return contexts.named[name].server.rstrip("/")


def token_for(server: str) -> str:
    """Return the token to send to a server; empty if there is none."""
    if token := os.environ.get("SHIFTPLANE_TOKEN"):
        return token.strip()
    if file := os.environ.get("SHIFTPLANE_TOKEN_FILE"):
        return read_text(file, name="SHIFTPLANE_TOKEN_FILE").strip()
    contexts = load()
    order = sorted(contexts.named, key=lambda name: name != contexts.current)
    return next(
        (
            contexts.named[name].token
            for name in order
            if contexts.named[name].server.rstrip("/") == server.rstrip("/")
        ),
        "",
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
