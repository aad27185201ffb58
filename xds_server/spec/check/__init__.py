"""What the parts of a spec mean together.

The checks read plain values and not the model, so that a wrong duration in one place does not hide a wrong
backend name in another. Each looks at what it needs and stays silent where the shape is wrong: that is said
elsewhere.
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

__all__ = ["meaning"]

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


def meaning(values: Any) -> Iterator[Finding]:
    """Yield what is wrong, and what deserves a warning."""
    spec = at(values, "spec")
    if not isinstance(spec, dict):
        return
    for check in _CHECKS:
        yield from check(spec)
