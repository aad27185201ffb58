"""Checks of `backends`: names, addresses, roles, and backends that are not used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check.values import at, backend_names, items, served_backends, unknown
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.document import Loc

__all__ = ["CHECKS"]


def _roles(spec: Any) -> set[str]:
    """Return the names of the stable and the candidate backend."""
    return {name for name in (spec.get("stable"), spec.get("candidate")) if isinstance(name, str)}


def _backend_names(spec: Any) -> Iterator[Finding]:
    names, listed = backend_names(spec), items(spec.get("backends"))
    for number, backend in enumerate(listed):
        name = at(backend, "name")
        if isinstance(name, str) and names.index(name) < number and names.count(name) > 1:
            yield Finding(
                ("spec", "backends", number, "name"),
                f"duplicate backend name {name!r}",
                "use a unique name",
            )
    for role in ("stable", "candidate"):
        name = spec.get(role)
        # If a backend has no readable name, report no error, because the role may refer to that backend.
        if isinstance(name, str) and names and len(names) == len(listed) and name not in names:
            yield Finding(("spec", role), *unknown("backend", name, names))
    if isinstance(spec.get("stable"), str) and spec.get("stable") == spec.get("candidate"):
        yield Finding(
            ("spec", "candidate"), f"{spec['candidate']!r} is also the stable backend", "use another backend"
        )


def _backend_addresses(spec: Any) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    roles = _roles(spec)
    for number, backend in enumerate(items(spec.get("backends"))):
        if not isinstance(backend, dict):
            continue
        loc: Loc = ("spec", "backends", number)
        endpoints, dns = backend.get("endpoints"), backend.get("dns")
        if (endpoints is None) == (dns is None):
            message = "has neither endpoints nor dns" if dns is None else "has both endpoints and dns"
            yield Finding(loc, message, "set exactly one of endpoints and dns")
        listed = [e for e in items(endpoints) if isinstance(e, str)]
        for index, endpoint in enumerate(items(endpoints)):
            if isinstance(endpoint, str) and listed.count(endpoint) > 1 and listed.index(endpoint) < index:
                yield Finding(
                    (*loc, "endpoints", index),
                    f"{endpoint!r} is listed more than once",
                    "remove the duplicate",
                )
        name = str(backend.get("name"))
        for endpoint in dict.fromkeys([*listed, *([dns] if isinstance(dns, str) else [])]):
            owner = owners.setdefault(endpoint, name)
            if owner != name and {owner, name} <= roles:
                yield Finding(
                    loc,
                    f"{endpoint!r} also belongs to backend {owner!r}, so stable and candidate share a server",
                    "",
                    warning=True,
                )


def _references(spec: Any) -> Iterator[Finding]:
    names = backend_names(spec)
    if not names or len(names) != len(items(spec.get("backends"))):
        return
    for loc, name in served_backends(spec):
        if name not in names:
            yield Finding(loc, *unknown("backend", name, names))


def _unused(spec: Any) -> Iterator[Finding]:
    names = backend_names(spec)
    used = _roles(spec) | {name for _, name in served_backends(spec)}
    for number, name in enumerate(names):
        # An unknown backend name has its own error and may be a misspelling of this name: no warning then.
        if name not in used and used <= set(names) and spec.get("stable") != spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number),
                "is not used: it is neither stable nor candidate, and no other field refers to it",
                "",
                warning=True,
            )
    if isinstance(spec.get("candidate"), str) and spec.get("strategy") is None:
        yield Finding(
            ("spec", "candidate"),
            "the spec has no strategy, so no rollout moves users to the candidate",
            "add spec.strategy",
            warning=True,
        )


def _models(spec: Any) -> Iterator[Finding]:
    backends = [b for b in items(spec.get("backends")) if isinstance(b, dict)]
    without = [n for n, b in enumerate(backends) if b.get("modelNameOverride") is None]
    if spec.get("model") is None and without and len(without) < len(backends):
        for number in without:
            yield Finding(
                ("spec", "backends", number),
                "has no modelNameOverride while another backend has one, so its model name is unknown",
                "add modelNameOverride to every backend, or set spec.model",
            )


def _health(spec: Any) -> Iterator[Finding]:
    for number, backend in enumerate(items(spec.get("backends"))):
        enabled = at(backend, "passiveHealth", "enabled")
        if enabled is False and at(backend, "name") == spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number, "passiveHealth", "enabled"),
                "is false for the candidate, so proxies keep sending requests to failing endpoints",
                "",
                warning=True,
            )


CHECKS: Final = (_backend_names, _backend_addresses, _references, _unused, _models, _health)
