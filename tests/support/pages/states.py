"""Draw the state diagram: the layout is fixed here, the labels come from the transition table."""

from __future__ import annotations

import textwrap
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from xds_server.rollout import Phase
from xds_server.rollout.diagram import INSIDE, STEPS, arrows

__all__ = ["picture"]

_BACK: Final = Phase.ROLLING_BACK.value
_TITLE: Final = "The phases of a rollout and their transitions"
_LINE: Final = 16
_LABEL_WIDTH: Final = 26
_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; text-anchor: middle;
         paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }
  .name { font-weight: 600; font-size: 14px; stroke: none; }
  rect { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.5; rx: 8; }
  .frame { fill: #ffffff; }
  .good { fill: #dafbe1; stroke: #1a7f37; }
  .back { fill: #ffebe9; stroke: #cf222e; }
  path { fill: none; stroke: #57606a; stroke-width: 1.5; marker-end: url(#head); }
  path.back { fill: none; stroke: #cf222e; marker-end: url(#back); }
"""


class _Box(NamedTuple):
    x: int
    y: int
    width: int = 130
    height: int = 44
    style: str = ""


class _Arrow(NamedTuple):
    """The path of an arrow, and the center of its label."""

    path: str
    x: int
    y: int


_BOXES: Final[dict[str, _Box]] = {
    Phase.PENDING.value: _Box(30, 190),
    Phase.HEALTHY.value: _Box(1000, 190, style="good"),
    Phase.DEGRADED.value: _Box(515, 420),
    Phase.ROLLING_BACK.value: _Box(1000, 420, style="back"),
    Phase.ROLLED_BACK.value: _Box(30, 420, style="back"),
    Phase.KILLED.value: _Box(1000, 590, style="back"),
}
_FRAME: Final = _Box(420, 130, 320, 160, "frame")
_ANYWHERE: Final = _Box(700, 590)

_ARROWS: Final[dict[tuple[str, str], _Arrow]] = {
    ("Pending", INSIDE): _Arrow("M160 200 H412", 287, 150),
    (INSIDE, "Pending"): _Arrow("M420 226 H168", 287, 246),
    (INSIDE, INSIDE): _Arrow("M550 130 C550 100 610 100 610 122", 580, 48),
    (INSIDE, "Healthy"): _Arrow("M740 200 H992", 868, 150),
    ("Pending", "Healthy"): _Arrow("M95 190 C95 -40 1040 -40 1040 182", 250, 46),
    ("Healthy", "Pending"): _Arrow("M1090 190 C1090 -95 60 -95 60 182", 860, -5),
    (INSIDE, "Degraded"): _Arrow("M600 290 V412", 655, 350),
    ("Degraded", INSIDE): _Arrow("M560 420 V298", 485, 345),
    ("Pending", "Degraded"): _Arrow("M110 234 C150 400 300 430 507 430", 262, 372),
    ("Degraded", "Pending"): _Arrow("M515 452 C250 452 120 430 80 242", 190, 410),
    ("Degraded", "Healthy"): _Arrow("M645 430 C800 400 960 320 1020 242", 915, 330),
    ("RolledBack", "Pending"): _Arrow("M50 420 V242", 30, 350),
    ("RollingBack", "RolledBack"): _Arrow("M1030 464 C1000 560 200 560 110 472", 400, 545),
    ("Pending", _BACK): _Arrow("M140 234 C240 560 900 560 992 450", 0, 0),
    (INSIDE, _BACK): _Arrow("M700 290 C740 380 860 430 992 436", 0, 0),
    ("Healthy", _BACK): _Arrow("M1085 234 V412", 0, 0),
    ("Degraded", _BACK): _Arrow("M645 444 H992", 0, 0),
}


def picture() -> str:
    """Return the diagram as SVG.

    Raises:
        KeyError: The layout lacks an arrow of the table, or has an additional one.
    """
    table = arrows()
    if set(table) != set(_ARROWS):
        raise KeyError(sorted(set(table) ^ set(_ARROWS)))
    rollbacks = {events for (_, to), events in table.items() if to == _BACK}
    if len(rollbacks) != 1:
        raise KeyError(rollbacks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -40 1160 700" role="img" aria-label="{_TITLE}">',
        f"<style>{_STYLE}</style>",
        _head("head", "#57606a") + _head("back", "#cf222e"),
        '<rect x="0" y="-40" width="1160" height="700" style="fill:#ffffff;stroke:none"/>',
        _rect(_FRAME),
        f'<text class="name" x="580" y="152">{INSIDE}</text>',
        *(f'<path{_color(pair)} d="{_ARROWS[pair].path}"/>' for pair in table),
        *(_label(pair, events) for pair, events in table.items() if pair[1] != _BACK),
        *_steps(),
        *(_named(name, box) for name, box in _BOXES.items()),
        *_kill_arrows(),
        _text([f"red: rolled back by {', '.join(*rollbacks)}"], 240, 617),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _head(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
        f' orient="auto"><polygon points="0 0 8 4 0 8" fill="{color}"/></marker>'
    )


def _color(pair: tuple[str, str]) -> str:
    return ' class="back"' if pair[1] == _BACK else ""


def _label(pair: tuple[str, str], events: tuple[str, ...]) -> str:
    arrow, label = _ARROWS[pair], ("next step: " if pair == (INSIDE, INSIDE) else "") + ", ".join(events)
    return _text(textwrap.wrap(label, _LABEL_WIDTH, break_on_hyphens=False), arrow.x, arrow.y)


def _steps() -> list[str]:
    return [
        _named(phase.value, _Box(435 + number % 2 * 155, 166 + number // 2 * 60, 135))
        for number, phase in enumerate(STEPS)
    ]


def _kill_arrows() -> list[str]:
    return [
        _named("any phase", _ANYWHERE),
        '<path class="back" d="M830 602 H992"/>' + _text(["kill"], 910, 594),
        '<path d="M1000 622 H838"/>' + _text(["unkill: restores the phase"], 915, 648),
    ]


def _named(name: str, box: _Box) -> str:
    x, y = box.x + box.width // 2, box.y + box.height // 2 + 5
    return _rect(box) + f'<text class="name" x="{x}" y="{y}">{escape(name)}</text>'


def _rect(box: _Box) -> str:
    style = f' class="{box.style}"' if box.style else ""
    return f'<rect{style} x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}"/>'


def _text(lines: list[str], x: int, y: int) -> str:
    spans = "".join(
        f'<tspan x="{x}" y="{y + number * _LINE}">{escape(line)}</tspan>' for number, line in enumerate(lines)
    )
    return f"<text>{spans}</text>"
