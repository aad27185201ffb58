"""Bars and the chart of weights over time, as SVG without inline styles (pure).

Colors come from CSS classes, because the Content-Security-Policy of the pages forbids inline styles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xds_server.view import EventView

__all__ = ["Chart", "bar", "dot", "weights_chart"]

_WIDE, _HIGH = 600.0, 120.0
_COLORS: Final = 4


def bar(percent: float, color: int) -> Markup:
    """Return a bar that is filled to `percent`."""
    filled = min(100.0, max(0.0, percent))
    width = max(filled, 0.6) if filled > 0 else 0.0
    return Markup(  # noqa: S704 - numbers only
        f'<svg viewBox="0 0 100 6" preserveAspectRatio="none" height="12" role="img" '
        f'aria-label="{filled:g} %">'
        f'<rect class="track" width="100" height="6"></rect>'
        f'<rect class="c{color % _COLORS}" width="{width:.2f}" height="6"></rect></svg>'
    )


def dot(color: int) -> Markup:
    """Return a dot in a color, for the legend."""
    return Markup(  # noqa: S704 - a number only
        f'<svg viewBox="0 0 8 8" aria-hidden="true">'
        f'<circle class="c{color % _COLORS}" cx="4" cy="4" r="4"></circle></svg>'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The chart and its start time; without events `svg` is empty and `begins` is None."""

    svg: Markup
    begins: float | None


def weights_chart(
    events: Sequence[EventView], weights: Mapping[str, float], stable: str, now: float
) -> Chart:
    """Draw the weights over time as step lines, up to the current `weights`.

    Events contain the weights of all backends except the stable one, which gets the remainder.
    """
    known = [event for event in events if event.phase is not None]
    if not known:
        return Chart(svg=Markup(), begins=None)
    begins, ends = known[0].at, max(now, known[-1].at + 1e-3)
    points: list[tuple[float, Mapping[str, float]]] = [
        (event.at, _with_stable(event.weights, stable)) for event in known
    ]
    points.append((ends, weights))
    lines = "".join(
        f'<polyline class="l{number % _COLORS}" points="{_steps(name, points, begins, ends)}"></polyline>'
        for number, name in enumerate(weights)
    )
    rules = "".join(
        f'<line class="rule" x1="0" x2="{_WIDE:g}" y1="{y:g}" y2="{y:g}"></line>'
        for y in (2, _HIGH / 2, _HIGH - 2)
    )
    current = ", ".join(f"{name} {share:g} %" for name, share in weights.items())
    label = Markup("Weights over time, currently {}").format(current)
    svg = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" height="120" role="img" '
        'aria-label="{}">{}{}</svg>'
    ).format(f"{_WIDE:g}", f"{_HIGH:g}", label, Markup(rules), Markup(lines))  # noqa: S704 - numbers only
    return Chart(svg=svg, begins=begins)


def _with_stable(weights: Mapping[str, float], stable: str) -> dict[str, float]:
    others = {name: share for name, share in weights.items() if name != stable}
    return {stable: 100.0 - sum(others.values()), **others}


def _steps(name: str, points: Sequence[tuple[float, Mapping[str, float]]], begins: float, ends: float) -> str:
    found: list[str] = []
    before: float | None = None
    for at, shares in points:
        x = (at - begins) / (ends - begins) * _WIDE
        y = _HIGH - 2 - shares.get(name, 0.0) / 100 * (_HIGH - 4)
        if before is not None and before != y:
            found.append(f"{x:.1f},{before:.1f}")
        if before != y or at == ends:
            found.append(f"{x:.1f},{y:.1f}")
        before = y
    return " ".join(found)
