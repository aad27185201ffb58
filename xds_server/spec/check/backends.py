"""Backends: their names and addresses, the roles they have, and whether anybody uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, backend_names, items, near, one_of, served
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]


def _roles(spec: Any) -> set[str]:
    """Return the names that stable and candidate say."""
    return {name for name in (spec.get("stable"), spec.get("candidate")) if isinstance(name, str)}


def _backend_names(spec: Any) -> Iterator[Finding]:
    names, listed = backend_names(spec), items(spec.get("backends"))
    for number, backend in enumerate(listed):
        name = at(backend, "name")
        if isinstance(name, str) and names.index(name) < number and names.count(name) > 1:
            yield Finding(
                ("spec", "backends", number, "name"),
                f"{name!r} is the name of two backends",
                "names must differ",
            )
    for role in ("stable", "candidate"):
        name = spec.get(role)
        # While a backend has no readable name, this may well be the one that is meant.
        if isinstance(name, str) and names and len(names) == len(listed) and name not in names:
            yield Finding(("spec", role), f"there is no backend {name!r}{near(name, names)}", one_of(names))
    if isinstance(spec.get("stable"), str) and spec.get("stable") == spec.get("candidate"):
        yield Finding(
            ("spec", "candidate"), f"{spec['candidate']!r} is the stable backend too", "name another backend"
        )


def _backend_addresses(spec: Any) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    tried = _roles(spec)
    for number, backend in enumerate(items(spec.get("backends"))):
        if not isinstance(backend, dict):
            continue
        loc: Loc = ("spec", "backends", number)
        endpoints, dns = backend.get("endpoints"), backend.get("dns")
        if (endpoints is None) == (dns is None):
            said = "has neither endpoints nor dns" if dns is None else "has both endpoints and dns"
            yield Finding(loc, said, "exactly one of endpoints and dns is needed")
        listed = [e for e in items(endpoints) if isinstance(e, str)]
        for place, endpoint in enumerate(items(endpoints)):
            if isinstance(endpoint, str) and listed.count(endpoint) > 1 and listed.index(endpoint) < place:
                yield Finding((*loc, "endpoints", place), f"{endpoint!r} is listed twice", "list it once")
        name = str(backend.get("name"))
        for endpoint in dict.fromkeys([*listed, *([dns] if isinstance(dns, str) else [])]):
            owner = owners.setdefault(endpoint, name)
            if owner != name and {owner, name} <= tried:
                yield Finding(
                    loc,
                    f"{endpoint!r} belongs to {owner!r} too: both names mean the same server",
                    "",
                    warning=True,
                )


def _served(spec: Any) -> Iterator[Finding]:
    names = backend_names(spec)
    if not names or len(names) != len(items(spec.get("backends"))):
        return
    for loc, name in served(spec):
        if name not in names:
            yield Finding(loc, f"there is no backend {name!r}{near(name, names)}", one_of(names))


def _idle(spec: Any) -> Iterator[Finding]:
    names = backend_names(spec)
    used = _roles(spec) | {name for _, name in served(spec)}
    for number, name in enumerate(names):
        # Whatever names nothing is an error already, and may well mean this backend.
        if name not in used and used <= set(names) and spec.get("stable") != spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number),
                "nobody uses it: it is neither stable nor candidate, and nothing else names it",
                "",
                warning=True,
            )
    if isinstance(spec.get("candidate"), str) and spec.get("strategy") is None:
        yield Finding(("spec", "candidate"), "is never tried: there is no strategy", "", warning=True)


def _models(spec: Any) -> Iterator[Finding]:
    backends = [b for b in items(spec.get("backends")) if isinstance(b, dict)]
    without = [n for n, b in enumerate(backends) if b.get("modelNameOverride") is None]
    if spec.get("model") is None and without and len(without) < len(backends):
        for number in without:
            yield Finding(
                ("spec", "backends", number),
                "has no modelNameOverride while another backend has one: its own model name is unknown",
                "give every backend a modelNameOverride, or set spec.model",
            )


def _health(spec: Any) -> Iterator[Finding]:
    for number, backend in enumerate(items(spec.get("backends"))):
        enabled = at(backend, "passiveHealth", "enabled")
        if enabled is False and at(backend, "name") == spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number, "passiveHealth", "enabled"),
                "the candidate has no passive health: users would meet every endpoint that fails",
                "",
                warning=True,
            )


CHECKS: Final = (_backend_names, _backend_addresses, _served, _idle, _models, _health)
