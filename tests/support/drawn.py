"""Parts of the docs that are generated from code and samples, and generated images.

A page marks them: `<!-- begin: NAME; make golden -->` … `<!-- end -->`. The text in between is generated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror_collector.cli import main as mirror_collector
from tests.support.catalogue import catalogue
from tests.support.logged import log_events
from tests.support.notices import example
from tests.support.pages import commands, messages, specs, states, story
from xds_server.cli import main as shiftplane
from xds_server.notifications.messages import FIELDS, KINDS, Format
from xds_server.rollout.diagram import guards

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PICTURES", "ROOT", "generated_pages", "regenerate"]

ROOT: Final = Path(__file__).resolve().parents[2]
PICTURES: Final[dict[str, Callable[[], str]]] = {"docs/images/states.svg": states.picture}


def _events() -> str:
    return _table(("event", "says"), [(f"`{kind}`", words) for kind, words in KINDS.items()])


def _fields() -> str:
    return _table(("field", "is"), [(f"`{name}`", words) for name, words in FIELDS.items()])


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    generate = [f"| {' | '.join(cells)} |\n" for cells in (heads, *rows)]
    return "".join([generate[0], f"|{'---|' * len(heads)}\n", *generate[1:]])


def _json(kind: Format) -> Callable[[], str]:
    return lambda: f"```json\n{example(kind)}\n```\n"


def _series(program: str) -> Callable[[], str]:
    def generate() -> str:
        rows = [
            (f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.help)
            for one in catalogue(program)
        ]
        return _table(("series", "type", "labels", "says"), rows)

    return generate


def _logs(program: str) -> Callable[[], str]:
    def generate() -> str:
        rows = [
            (f"`{one.name}`", one.level, ", ".join(f"`{name}`" for name in one.fields))
            for one in log_events(program)
        ]
        return _table(("event", "level", "fields"), rows)

    return generate


_PARTS: Final[dict[str, Callable[[], str]]] = {
    "transitions": guards,
    "events": _events,
    "template fields": _fields,
    "a webhook's message": _json(Format.WEBHOOK),
    "a message to Slack": _json(Format.SLACK),
    "a CloudEvent": _json(Format.CLOUDEVENTS),
    "series of xds_server": _series("xds_server"),
    "series of mirror_collector": _series("mirror_collector"),
    "log events of xds_server": _logs("xds_server"),
    "log events of mirror_collector": _logs("mirror_collector"),
    "kinds of values": specs.kinds,
    "fields": specs.field_tables,
    "problems": messages.problem_tables,
    "a candidate that is worse": story.worse,
    "a candidate that is as good": story.alike,
    "an incident": story.incident,
    "shiftplane": lambda: commands.command_pages("shiftplane", shiftplane),
    "mirror-collector": lambda: commands.command_pages("mirror-collector", mirror_collector),
}
_BLOCK: Final = re.compile(r"(<!-- begin: ([^;>]+); make golden -->\n).*?(<!-- end -->)", re.DOTALL)


def generated_pages() -> list[str]:
    """Return the paths of pages with generated parts."""
    pages = (path for path in sorted(ROOT.glob("docs/**/*.md")) if _BLOCK.search(path.read_text("utf-8")))
    return [path.relative_to(ROOT).as_posix() for path in pages]


def regenerate(text: str) -> str:
    """Return a page with its parts generated from the present code."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_part(found[2].strip())}\n{found[3]}", text)


def _part(name: str) -> str:
    """Return the text of a part: generated from code, or a file as it is."""
    if name in _PARTS:
        return f"\n{_PARTS[name]()}\n"
    file = ROOT / name
    return f"```{file.suffix.lstrip('.')}\n{file.read_text(encoding='utf-8').rstrip()}\n```"
