"""Plain values of a spec, read without trusting their shape: what is not there is None."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from xds_server.spec import units
from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xds_server.spec.document import Loc

__all__ = [
    "FULL",
    "at",
    "backend_names",
    "duration",
    "items",
    "near",
    "one_of",
    "pairs",
    "percent",
    "served",
    "size",
    "texts",
    "values_of",
]

FULL: Final = 10_000
_MOST_BYTES: Final = 16 << 10


def at(values: Any, *path: str | int) -> Any:
    """Return what stands at a path."""
    for part in path:
        if isinstance(part, str) and isinstance(values, dict):
            values = values.get(part)
        elif isinstance(part, int) and isinstance(values, list) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def items(values: Any) -> list[Any]:
    """Return the entries of a list; of anything else none."""
    return values if isinstance(values, list) else []


def pairs(values: Any) -> dict[str, Any]:
    """Return the entries of a mapping; of anything else none."""
    return values if isinstance(values, dict) else {}


def texts(values: Any) -> list[str]:
    """Return the entries of a list that are text."""
    return [value for value in items(values) if isinstance(value, str)]


def duration(value: object) -> Any:
    """Return a duration."""
    return _unit(units.duration, value)


def percent(value: object) -> Any:
    """Return the basis points of a percentage."""
    return _unit(units.basis_points, value)


def size(value: object) -> Any:
    """Return the bytes of a size."""
    return _unit(units.size, value)


def _unit(read: Callable[[object], Any], value: object) -> Any:
    try:
        return read(value)
    except units.UnitError:
        return None


def backend_names(spec: Any) -> list[str]:
    """Return the names of the backends, those that can be read."""
    return [name for name in (at(b, "name") for b in items(at(spec, "backends"))) if isinstance(name, str)]


def served(spec: Any) -> Iterator[tuple[Loc, str]]:
    """Yield every place beside stable and candidate that names a backend, with the name."""
    found: list[tuple[Loc, Any]] = [(("killSwitch", "serve"), at(spec, "killSwitch", "serve"))]
    for number, variant in enumerate(items(at(spec, "strategy", "abTest", "variants"))):
        found.append((("strategy", "abTest", "variants", number, "backend"), at(variant, "backend")))
    for number, target in enumerate(items(at(spec, "targeting", "targets"))):
        found.append((("targeting", "targets", number, "serve"), at(target, "serve")))
    for number, rule in enumerate(items(at(spec, "targeting", "rules"))):
        loc: Loc = ("targeting", "rules", number, "serve")
        found.append((loc, at(rule, "serve")))
        found.extend(((*loc, "weights", name), name) for name in pairs(at(rule, "serve", "weights")))
    return ((("spec", *loc), name) for loc, name in found if isinstance(name, str))


def values_of(loc: Loc, values: list[Any]) -> Iterator[Finding]:
    """Yield what is wrong with a list of values, whatever they are compared with."""
    seen: set[str] = set()
    for number, value in enumerate(values):
        if isinstance(value, str) and value in seen:
            yield Finding((*loc, number), f"{value[:40]!r} is listed twice", "list it once")
        elif isinstance(value, str):
            seen.add(value)
    size = sum(len(value.encode(errors="replace")) for value in texts(values))
    if size > _MOST_BYTES:
        yield Finding(loc, f"the values have {size} bytes together", "at most 16 KiB are allowed")


def near(name: str, known: list[str]) -> str:
    """Return a question about the known name that was probably meant."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def one_of(names: list[str]) -> str:
    """Return the words for what is allowed."""
    return "allowed: " + ", ".join(dict.fromkeys(names))
