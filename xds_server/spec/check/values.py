"""Read plain values of a spec without assumptions about their shape; missing values are None."""

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
    "check_values",
    "duration",
    "hint",
    "items",
    "pairs",
    "percent",
    "served_backends",
    "size",
    "texts",
    "unknown",
]

FULL: Final = 10_000
_MAX_BYTES: Final = 16 << 10


def at(values: Any, *path: str | int) -> Any:
    """Return the value at a path, or None."""
    for part in path:
        if isinstance(part, str) and isinstance(values, dict):
            values = values.get(part)
        elif isinstance(part, int) and isinstance(values, list) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def items(values: Any) -> list[Any]:
    """Return the entries of a list; an empty list for any other value."""
    return values if isinstance(values, list) else []


def pairs(values: Any) -> dict[str, Any]:
    """Return the entries of a mapping; an empty mapping for any other value."""
    return values if isinstance(values, dict) else {}


def texts(values: Any) -> list[str]:
    """Return the entries of a list that are text."""
    return [value for value in items(values) if isinstance(value, str)]


def duration(value: object) -> Any:
    """Return a duration, or None if it is invalid."""
    return _unit(units.duration, value)


def percent(value: object) -> Any:
    """Return a percentage in basis points, or None if it is invalid."""
    return _unit(units.basis_points, value)


def size(value: object) -> Any:
    """Return a size in bytes, or None if it is invalid."""
    return _unit(units.size, value)


def _unit(read: Callable[[object], Any], value: object) -> Any:
    try:
        return read(value)
    except units.UnitError:
        return None


def backend_names(spec: Any) -> list[str]:
    """Return the names of the backends whose name is text."""
    return [name for name in (at(b, "name") for b in items(at(spec, "backends"))) if isinstance(name, str)]


def served_backends(spec: Any) -> Iterator[tuple[Loc, str]]:
    """Yield the location and value of every reference to a backend except `stable` and `candidate`."""
    named: list[tuple[Loc, Any]] = [(("killSwitch", "serve"), at(spec, "killSwitch", "serve"))]
    for number, variant in enumerate(items(at(spec, "strategy", "abTest", "variants"))):
        named.append((("strategy", "abTest", "variants", number, "backend"), at(variant, "backend")))
    for number, target in enumerate(items(at(spec, "targeting", "targets"))):
        named.append((("targeting", "targets", number, "serve"), at(target, "serve")))
    for number, rule in enumerate(items(at(spec, "targeting", "rules"))):
        loc: Loc = ("targeting", "rules", number, "serve")
        named.append((loc, at(rule, "serve")))
        named.extend(((*loc, "weights", name), name) for name in pairs(at(rule, "serve", "weights")))
    return ((("spec", *loc), name) for loc, name in named if isinstance(name, str))


def check_values(loc: Loc, values: list[Any]) -> Iterator[Finding]:
    """Yield findings about duplicate values and about the total size of a list of values."""
    seen: set[str] = set()
    for number, value in enumerate(values):
        if isinstance(value, str) and value in seen:
            yield Finding((*loc, number), f"{value[:40]!r} is listed more than once", "remove the duplicate")
        elif isinstance(value, str):
            seen.add(value)
    size = sum(len(value.encode(errors="replace")) for value in texts(values))
    if size > _MAX_BYTES:
        yield Finding(
            loc, f"the values have {size} bytes in total", f"at most {_MAX_BYTES} bytes (16 KiB) are allowed"
        )


def hint(name: str, known: list[str]) -> str:
    """Return a hint with the most similar known name, or an empty text."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def unknown(kind: str, name: str, known: list[str]) -> tuple[str, str]:
    """Return message and allowed values for a name of a `kind`, such as backend, that is not in `known`."""
    defined = f"defined {kind}s: {', '.join(dict.fromkeys(known))}"
    return f"unknown {kind} {name!r}{hint(name, known)}", defined
