"""Parts of the docs that are drawn from tables of the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.support.catalogue import catalogue
from tests.support.logged import logged
from tests.support.notices import example
from xds_server.notify import FIELDS, KINDS, Format
from xds_server.rollout.diagram import diagram, guards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DRAWN", "redrawn"]

DRAWN = (
    "docs/rollout.md",
    "docs/notifications.md",
    "docs/reference/metrics.md",
    "docs/reference/logs.md",
)
_BLOCK = re.compile(r"(<!-- begin: ([^;>]*)[^>]*-->\n).*?(<!-- end -->)", re.DOTALL)


def _machine() -> str:
    return f"```mermaid\n{diagram()}\n```\n\n{guards()}\n"


def _events() -> str:
    return _table(("event", "says"), [(f"`{kind}`", words) for kind, words in KINDS.items()])


def _fields() -> str:
    return _table(("field", "is"), [(f"`{name}`", words) for name, words in FIELDS.items()])


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    drawn = [f"| {' | '.join(cells)} |\n" for cells in (heads, *rows)]
    return "".join([drawn[0], f"|{'---|' * len(heads)}\n", *drawn[1:]])


def _json(kind: Format) -> Callable[[], str]:
    return lambda: f"```json\n{example(kind)}\n```\n"


def _series(program: str) -> Callable[[], str]:
    def drawn() -> str:
        rows = [
            (f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.words)
            for one in catalogue(program)
        ]
        return _table(("series", "type", "labels", "says"), rows)

    return drawn


def _logs(program: str) -> Callable[[], str]:
    def drawn() -> str:
        rows = [
            (f"`{one.name}`", one.level, ", ".join(f"`{name}`" for name in one.fields))
            for one in logged(program)
        ]
        return _table(("event", "level", "fields"), rows)

    return drawn


_PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "drawn from the table": _machine,
    "events": _events,
    "template fields": _fields,
    "a webhook's message": _json(Format.WEBHOOK),
    "a message to Slack": _json(Format.SLACK),
    "a CloudEvent": _json(Format.CLOUDEVENTS),
    "series of xds_server": _series("xds_server"),
    "series of mirror_collector": _series("mirror_collector"),
    "log events of xds_server": _logs("xds_server"),
    "log events of mirror_collector": _logs("mirror_collector"),
}


def redrawn(text: str) -> str:
    """Return a page with its drawn parts as the tables have them now."""
    return _BLOCK.sub(lambda found: found[1] + _PARTS[found[2]]() + found[3], text)
