"""Which control plane is meant, and by what token: contexts, as people know them from kubectl.

`--server` or SHIFTPLANE_SERVER name one; else the context in use does; else it is the one on this host. A
token is SHIFTPLANE_TOKEN, or the one of a context with the same server: it is never shown to another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

__all__ = ["LOCAL", "Context", "Contexts", "ContextsError", "load", "resolved", "save", "token_for"]

LOCAL: Final = "http://127.0.0.1:18001"


class ContextsError(click.ClickException):
    """The file of contexts is not what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A control plane by its base URL; the token never prints."""

    server: str
    token: str = field(default="", repr=False)


@dataclass(slots=True, kw_only=True)
class Contexts:
    """All that are known, and the one in use."""

    current: str = ""
    named: dict[str, Context] = field(default_factory=dict)


def path() -> Path:
    """Return where contexts are kept: SHIFTPLANE_CONFIG, else in the user's own configuration."""
    if named := os.environ.get("SHIFTPLANE_CONFIG"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "shiftplane" / "config.yaml"


def load() -> Contexts:
    """Return the contexts; none where there is no file.

    Raises:
        ContextsError: The file is not what it must be.
    """
    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        raise ContextsError(f"{file}: {error}") from error
    import yaml

    try:
        found = yaml.safe_load(text) or {}
        named = {
            str(name): Context(server=_text(one["server"]), token=_text(one.get("token", "")))
            for name, one in (found.get("contexts") or {}).items()
        }
        return Contexts(current=_text(found.get("current", "")), named=named)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ContextsError(
            f"{file}: not a file of contexts ({error.__class__.__name__}: {error}); "
            "{current: NAME, contexts: {NAME: {server: URL, token: TEXT}}} is allowed"
        ) from error


def save(contexts: Contexts) -> Path:
    """Write the contexts for their owner's eyes alone, whole or not at all."""
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
        raise ContextsError(f"{file}: {error}") from error
    return file


def resolved(server: str | None) -> str:
    """Return the base URL that is meant.

    Raises:
        ContextsError: The context in use is not there.
    """
    if server:
        return server.rstrip("/")
    contexts = load()
    name = os.environ.get("SHIFTPLANE_CONTEXT") or contexts.current
    if not name:
        return LOCAL
    if name not in contexts.named:
        known = ", ".join(contexts.named) or "none"
        raise ContextsError(
            f"there is no context {name!r}; known: {known}; choose with: shiftplane config use NAME"
        )
    return contexts.named[name].server.rstrip("/")


def token_for(server: str) -> str:
    """Return the token to show to a server; empty for none."""
    if token := os.environ.get("SHIFTPLANE_TOKEN"):
        return token.strip()
    if named := os.environ.get("SHIFTPLANE_TOKEN_FILE"):
        try:
            return Path(named).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ContextsError(f"SHIFTPLANE_TOKEN_FILE: {error}") from error
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
        raise TypeError(f"{value!r} is no text")
    return value
