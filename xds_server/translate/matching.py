"""Conditions of the IR → Envoy header matchers (pure)."""

from __future__ import annotations

import re
from typing import Final, assert_never

from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import Int64Range

from xds_server import ir

__all__ = ["header_matcher"]

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_SPECIAL: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")


def header_matcher(condition: ir.Condition) -> HeaderMatcher:
    """Return the matcher; several values become one regular expression, since Envoy has no value lists."""
    message = HeaderMatcher(name=condition.header, invert_match=condition.negated)
    match condition.op:
        case ir.Op.EXISTS:
            message.present_match = True
        case ir.Op.AT_LEAST:
            message.range_match = Int64Range(start=int(condition.values[0]), end=_INT64_MAX)
        case ir.Op.BELOW:
            message.range_match = Int64Range(start=_INT64_MIN, end=int(condition.values[0]))
        case ir.Op.EQUALS | ir.Op.STARTS_WITH | ir.Op.ENDS_WITH | ir.Op.CONTAINS | ir.Op.MATCHES:
            message.string_match = _text(condition.op, condition.values)
            # Envoy matches no missing header, even if the match is inverted. A header treated as empty meets
            # a negated condition.
            message.treat_missing_header_as_empty = condition.negated
        case other:
            assert_never(other)
    return message


def _text(op: ir.Op, values: tuple[str, ...]) -> StringMatcher:
    if op is not ir.Op.MATCHES and len(values) == 1:
        match op:
            case ir.Op.STARTS_WITH:
                return StringMatcher(prefix=values[0])
            case ir.Op.ENDS_WITH:
                return StringMatcher(suffix=values[0])
            case ir.Op.CONTAINS:
                return StringMatcher(contains=values[0])
            case _:
                return StringMatcher(exact=values[0])
    before = ".*" if op in {ir.Op.ENDS_WITH, ir.Op.CONTAINS} else ""
    after = ".*" if op in {ir.Op.STARTS_WITH, ir.Op.CONTAINS} else ""
    if op is ir.Op.MATCHES:
        either = values[0] if len(values) == 1 else "|".join(f"(?:{value})" for value in values)
        return StringMatcher(safe_regex=RegexMatcher(regex=either))
    either = "|".join(_SPECIAL.sub(r"\\\1", value) for value in values)
    return StringMatcher(safe_regex=RegexMatcher(regex=f"{before}(?:{either}){after}"))
