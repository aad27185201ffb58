"""Check the values of a spec against each other.

The checks read plain values instead of the model, so that a wrong duration in one field does not hide a wrong
backend name in another. A check skips values with a wrong shape, because `shape` reports them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xds_server.spec.check import (
    analysis,
    attributes,
    backends,
    matching,
    prompts,
    strategies,
    targeting,
    tokens,
)
from xds_server.spec.check.values import at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec.shape import Finding

__all__ = ["check_spec"]

_CHECKS: Final = (
    *backends.CHECKS,
    *strategies.CHECKS,
    *attributes.CHECKS,
    *targeting.CHECKS,
    *tokens.CHECKS,
    *prompts.CHECKS,
    *analysis.CHECKS,
    *matching.CHECKS,
)


def check_spec(values: Any) -> Iterator[Finding]:
    """Yield errors and warnings about the values of a ModelRoute document."""
    spec = at(values, "spec")
    if not isinstance(spec, dict):
        return
    for check in _CHECKS:
        yield from check(spec)
