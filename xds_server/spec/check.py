"""What the parts of a spec mean together.

The checks read plain values and not the model, so that a wrong duration in one place does not hide a wrong
backend name in another. Each looks at what it needs and stays silent where the shape is wrong: that is said
elsewhere.
"""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec import units
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.spec.document import Loc

__all__ = ["meaning"]

_FULL: Final = 10_000
_MUCH_MEMORY: Final = 4 << 30


def meaning(values: Any) -> Iterator[Finding]:
    """Yield what is wrong, and what deserves a warning."""
    spec = _at(values, "spec")
    if not isinstance(spec, dict):
        return
    for check in _CHECKS:
        yield from check(spec)


def _at(values: Any, *path: str | int) -> Any:
    for part in path:
        if isinstance(part, str) and isinstance(values, dict):
            values = values.get(part)
        elif isinstance(part, int) and isinstance(values, list) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def _items(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _unit(read: Callable[[object], Any], value: object) -> Any:
    try:
        return read(value)
    except units.UnitError:
        return None


def _names(spec: Any) -> list[str]:
    return [n for n in (_at(b, "name") for b in _items(spec.get("backends"))) if isinstance(n, str)]


def _roles(spec: Any) -> set[str]:
    """Return the names that stable and candidate say."""
    return {name for name in (spec.get("stable"), spec.get("candidate")) if isinstance(name, str)}


def _backend_names(spec: Any) -> Iterator[Finding]:
    names, listed = _names(spec), _items(spec.get("backends"))
    for number, backend in enumerate(listed):
        name = _at(backend, "name")
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
            yield Finding(("spec", role), f"there is no backend {name!r}{_near(name, names)}", _one_of(names))
    if isinstance(spec.get("stable"), str) and spec.get("stable") == spec.get("candidate"):
        yield Finding(
            ("spec", "candidate"), f"{spec['candidate']!r} is the stable backend too", "name another backend"
        )


def _backend_addresses(spec: Any) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    tried = _roles(spec)
    for number, backend in enumerate(_items(spec.get("backends"))):
        if not isinstance(backend, dict):
            continue
        loc: Loc = ("spec", "backends", number)
        endpoints, dns = backend.get("endpoints"), backend.get("dns")
        if (endpoints is None) == (dns is None):
            said = "has neither endpoints nor dns" if dns is None else "has both endpoints and dns"
            yield Finding(loc, said, "exactly one of endpoints and dns is needed")
        listed = [e for e in _items(endpoints) if isinstance(e, str)]
        for place, endpoint in enumerate(_items(endpoints)):
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


def _idle(spec: Any) -> Iterator[Finding]:
    names, used = _names(spec), _roles(spec)
    for number, name in enumerate(names):
        # A role that names nothing is an error already, and may well mean this backend.
        if name not in used and used <= set(names) and spec.get("stable") != spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number),
                "is neither stable nor candidate: nobody uses it",
                "",
                warning=True,
            )
    if isinstance(spec.get("candidate"), str) and spec.get("strategy") is None:
        yield Finding(("spec", "candidate"), "is never tried: there is no strategy", "", warning=True)


def _models(spec: Any) -> Iterator[Finding]:
    backends = [b for b in _items(spec.get("backends")) if isinstance(b, dict)]
    without = [n for n, b in enumerate(backends) if b.get("modelNameOverride") is None]
    if spec.get("model") is None and without and len(without) < len(backends):
        for number in without:
            yield Finding(
                ("spec", "backends", number),
                "has no modelNameOverride while another backend has one: its own model name is unknown",
                "give every backend a modelNameOverride, or set spec.model",
            )


def _strategy(spec: Any) -> Iterator[Finding]:
    strategy = spec.get("strategy")
    if not isinstance(strategy, dict):
        return
    chosen = [name for name in ("canary", "shadow") if strategy.get(name) is not None]
    if len(chosen) != 1:
        said = "names no strategy" if not chosen else "names both canary and shadow"
        yield Finding(("spec", "strategy"), said, "exactly one of canary and shadow is needed")
    if spec.get("candidate") is None:
        yield Finding(("spec", "strategy"), "there is no candidate to try", "set spec.candidate")


def _canary(spec: Any) -> Iterator[Finding]:
    steps = _at(spec, "strategy", "canary", "steps")
    loc: Loc = ("spec", "strategy", "canary", "steps")
    kinds: list[str | None] = []
    for number, step in enumerate(_items(steps)):
        if not isinstance(step, dict):
            kinds.append(None)
            continue
        given = [k for k in ("setWeight", "pause") if k in step]
        kinds.append(given[0] if len(given) == 1 else None)
        if len(given) != 1 and not set(step) - {"setWeight", "pause"}:
            said = "has both setWeight and pause" if given else "is empty"
            yield Finding((*loc, number), said, "exactly one of setWeight and pause is needed")
        if len(kinds) > 1 and kinds[-1] == kinds[-2] == "pause":
            yield Finding((*loc, number), "is the second pause in a row", "", warning=True)
    if kinds and kinds[0] == "pause":
        yield Finding((*loc, 0), "the first step is a pause: nothing would be tried", "begin with setWeight")
    weights = [
        _unit(units.basis_points, _at(s, "setWeight"))
        for s in _items(steps)
        if _at(s, "setWeight") is not None
    ]
    if weights and weights[-1] not in {None, _FULL}:
        yield Finding(
            loc, f"the last weight is {weights[-1] / 100:g} %: the rollout would end there", "", warning=True
        )


def _stickiness(spec: Any) -> Iterator[Finding]:
    attribute = _at(spec, "strategy", "canary", "stickiness", "attribute")
    attributes = spec.get("attributes")
    known = list(attributes) if isinstance(attributes, dict) else []
    if isinstance(attribute, str) and attribute not in known:
        allowed = _one_of(known) if known else f"add it: attributes: {{{attribute}: {{header: x-user-id}}}}"
        yield Finding(
            ("spec", "strategy", "canary", "stickiness", "attribute"),
            f"there is no attribute {attribute!r}{_near(attribute, known)}",
            allowed,
        )
    header = _at(attributes, attribute, "header") if isinstance(attribute, str) else None
    if isinstance(header, str) and header.lower() == "x-request-id":
        yield Finding(
            ("spec", "attributes", attribute, "header"),
            "is new with every request: nobody would stay where they are",
            "name a header that stays the same for a user",
        )


def _shadow(spec: Any) -> Iterator[Finding]:
    shadow = _at(spec, "strategy", "shadow")
    if not isinstance(shadow, dict):
        return
    loc: Loc = ("spec", "strategy", "shadow")
    percentage = _unit(units.basis_points, shadow.get("percentage"))
    if percentage is not None and percentage > _FULL // 2:
        yield Finding(
            (*loc, "percentage"), "copies more than half of the requests: each costs tokens", "", warning=True
        )
    limits = shadow.get("limits")
    if "limits" in shadow and not isinstance(limits, dict):
        return
    requests = _at(limits, "maxConcurrentRequests")
    size = _unit(units.size, _at(limits, "maxRequestSize"))
    held = (requests if isinstance(requests, int) else 64) * (size or 32 << 20)
    if held > _MUCH_MEMORY:
        yield Finding(
            (*loc, "limits"),
            f"a stuck shadow could hold {held / (1 << 30):.1f} GiB in each proxy "
            "(maxConcurrentRequests times maxRequestSize)",
            "",
            warning=True,
        )


def _health(spec: Any) -> Iterator[Finding]:
    for number, backend in enumerate(_items(spec.get("backends"))):
        enabled = _at(backend, "passiveHealth", "enabled")
        if enabled is False and _at(backend, "name") == spec.get("candidate"):
            yield Finding(
                ("spec", "backends", number, "passiveHealth", "enabled"),
                "the candidate has no passive health: users would meet every endpoint that fails",
                "",
                warning=True,
            )


def _paths(spec: Any) -> Iterator[Finding]:
    path = _at(spec, "match", "path")
    if isinstance(path, dict):
        given = [name for name in ("prefix", "exact") if path.get(name) is not None]
        if len(given) != 1 and not set(path) - {"prefix", "exact"}:
            said = "has both prefix and exact" if given else "has neither prefix nor exact"
            yield Finding(("spec", "match", "path"), said, "exactly one of prefix and exact is needed")
    hosts = [h.lower() for h in _items(_at(spec, "match", "hosts")) if isinstance(h, str)]
    for host, count in Counter(hosts).items():
        if count > 1:
            last = len(hosts) - 1 - hosts[::-1].index(host)
            yield Finding(("spec", "match", "hosts", last), f"{host!r} is listed twice", "list it once")


def _timeouts(spec: Any) -> Iterator[Finding]:
    connect = _unit(units.duration, _at(spec, "timeouts", "connect"))
    request = _unit(units.duration, _at(spec, "timeouts", "request"))
    if connect is not None and request is not None and request <= connect:
        yield Finding(
            ("spec", "timeouts", "request"),
            "is not longer than timeouts.connect: no request could be answered",
            "a longer duration is needed",
        )
    wait = _unit(units.duration, _at(spec, "convergence", "timeout"))
    deadline = _unit(units.duration, spec.get("progressDeadline"))
    if wait is not None and deadline is not None and deadline < wait:
        yield Finding(
            ("spec", "progressDeadline"), "is shorter than convergence.timeout", "a longer duration is needed"
        )


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _one_of(names: list[str]) -> str:
    return "allowed: " + ", ".join(dict.fromkeys(names))


_CHECKS: Final = (
    _backend_names,
    _backend_addresses,
    _idle,
    _models,
    _strategy,
    _canary,
    _stickiness,
    _shadow,
    _health,
    _paths,
    _timeouts,
)
