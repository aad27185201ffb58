"""The route, variant and prompt version that a proxy would choose for a request, computed offline (pure).

Choices that a proxy makes at random or by source address cannot be computed; `Assignment.why` then gives the
reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, assert_never

import xxhash

from xds_server import ir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Assignment", "assign_request", "prompt_version", "slot_of", "variant_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The route of a request, its slot in the split, the variant that owns the slot, and the prompt version.

    `slot` and `variant` are None if they depend on more than the request's headers; `why` is the reason.
    """

    route: str
    slot: int | None
    variant: str | None
    prompt: str
    why: str


def assign_request(routes: Iterable[ir.Route], path: str, headers: Mapping[str, str]) -> Assignment | None:
    """Return the assignment of a request (header names in lower case); None if no route matches.

    Routes with a runtime fraction below 100 % are skipped, and so are routes with mirrors: a route without
    mirrors and with the same split follows them.
    """
    for route in routes:
        if not _path(route.path, path) or (
            route.runtime_fraction is not None and route.runtime_fraction.now < ir.FULL
        ):
            continue
        if not route.mirrors and all(_holds(condition, headers) for condition in route.conditions):
            slot, why = slot_of(route.stickiness, headers)
            variant = variant_of(route, slot)
            if variant is not None:
                why = "" if slot is not None else why if len(_variants(route)) > 1 else ""
            prompt = "" if route.prompt is None else prompt_version(route.prompt, headers)
            return Assignment(route=route.name, slot=slot, variant=variant, prompt=prompt, why=why)
    return None


def slot_of(stickiness: ir.Stickiness | None, headers: Mapping[str, str]) -> tuple[int | None, str]:
    """Return the slot of a request, or None with the reason."""
    if stickiness is None:
        return None, "chance, because the split has no stickiness"
    value = headers.get(stickiness.header)
    if value is None:
        fallback = "x-session-id or the source address"
        return None, f"{fallback}, because the header {stickiness.header} is missing"
    return xxhash.xxh64(f"{stickiness.salt}:{value}".encode()).intdigest() % ir.FULL, ""


def variant_of(route: ir.Route, slot: int | None) -> str | None:
    """Return the variant that owns a slot; without a slot, the route's only variant; None if several."""
    if slot is None:
        variants = _variants(route)
        return variants.pop() if len(variants) == 1 else None
    ends = accumulate(arm.weight for arm in route.arms)
    return next(arm.variant for arm, end in zip(route.arms, ends, strict=True) if slot < end)


def prompt_version(prompt: ir.Prompt, headers: Mapping[str, str]) -> str:
    """Return the prompt version of a request, "" for none."""
    for pin in prompt.pins:
        if headers.get(pin.header) in pin.values:
            return pin.version
    value = None if prompt.stickiness is None else headers.get(prompt.stickiness.header)
    if prompt.stickiness is None or value is None:
        return prompt.default
    slot = xxhash.xxh32(f"{prompt.stickiness.salt}:{value}".encode()).intdigest() % ir.FULL
    ends = accumulate(length for _, length in prompt.slots)
    return next((v for (v, _), end in zip(prompt.slots, ends, strict=True) if slot < end), prompt.default)


def _variants(route: ir.Route) -> set[str]:
    return {arm.variant for arm in route.arms if arm.weight}


def _path(match: ir.PathMatch, path: str) -> bool:
    if match.exact is not None:
        return path == match.exact
    return path.startswith(match.prefix or "/")


def _holds(condition: ir.Condition, headers: Mapping[str, str]) -> bool:
    value = headers.get(condition.header)
    return (value is not None and _meets(condition, value)) != condition.negated


def _meets(condition: ir.Condition, value: str) -> bool:
    match condition.op:
        case ir.Op.EXISTS:
            return True
        case ir.Op.EQUALS:
            return value in condition.values
        case ir.Op.STARTS_WITH:
            return value.startswith(condition.values)
        case ir.Op.ENDS_WITH:
            return value.endswith(condition.values)
        case ir.Op.CONTAINS:
            return any(part in value for part in condition.values)
        case ir.Op.MATCHES:
            return any(re.fullmatch(pattern, value) for pattern in condition.values)
        case ir.Op.AT_LEAST | ir.Op.BELOW:
            number = _number(value)
            bound = int(condition.values[0])
            return number is not None and (number >= bound) == (condition.op is ir.Op.AT_LEAST)
        case other:
            assert_never(other)


def _number(value: str) -> int | None:
    return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None
