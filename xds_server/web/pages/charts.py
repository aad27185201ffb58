"""Bars and the chart of weights over time, as SVG without a style of its own (pure).

Colours come from classes: the policy of the pages allows no style but the one file's.
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
_COLOURS: Final = 4


def bar(percent: float, colour: int) -> Markup:
    """Return a bar, so many percent of it full."""
    filled = min(100.0, max(0.0, percent))
    width = max(filled, 0.6) if filled > 0 else 0.0
    return Markup(  # noqa: S704 - numbers only
        f'<svg viewBox="0 0 100 6" preserveAspectRatio="none" height="12" role="img" '
        f'aria-label="{filled:g} %">'
        f'<rect class="track" width="100" height="6"></rect>'
        f'<rect class="c{colour % _COLOURS}" width="{width:.2f}" height="6"></rect></svg>'
    )


def dot(colour: int) -> Markup:
    """Return the mark of a colour."""
    return Markup(  # noqa: S704 - a number only
        f'<svg viewBox="0 0 8 8" aria-hidden="true">'
        f'<circle class="c{colour % _COLOURS}" cx="4" cy="4" r="4"></circle></svg>'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The chart, and when it begins; None while there is nothing to draw."""

    svg: Markup
    begins: float | None


def weights_chart(
    events: Sequence[EventView], weights: Mapping[str, float], stable: str, now: float
) -> Chart:
    """Draw how the shares of users went, as steps; the newest are those of `weights`.

    Events hold the shares of all variants but the stable one, which has the rest.
    """
    known = [event for event in events if event.phase is not None]
    if not known:
        return Chart(svg=Markup(), begins=None)
    begins, ends = known[0].at, max(now, known[-1].at + 1e-3)
    points: list[tuple[float, Mapping[str, float]]] = [
        (event.at, _whole(event.weights, stable)) for event in known
    ]
    points.append((ends, weights))
    lines = "".join(
        f'<polyline class="l{number % _COLOURS}" points="{_steps(name, points, begins, ends)}"></polyline>'
        for number, name in enumerate(weights)
    )
    rules = "".join(
        f'<line class="rule" x1="0" x2="{_WIDE:g}" y1="{y:g}" y2="{y:g}"></line>'
        for y in (2, _HIGH / 2, _HIGH - 2)
    )
    said = ", ".join(f"{name} {share:g} %" for name, share in weights.items())
    label = Markup("Shares of users over time, now {}").format(said)
    svg = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" height="120" role="img" '
        'aria-label="{}">{}{}</svg>'
    ).format(f"{_WIDE:g}", f"{_HIGH:g}", label, Markup(rules), Markup(lines))  # noqa: S704 - numbers only
    return Chart(svg=svg, begins=begins)


def _whole(weights: Mapping[str, float], stable: str) -> dict[str, float]:
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
