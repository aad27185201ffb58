"""What the demo reads from the collector: the number of pairs, and the newest pair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from xds_server.cli.client import Api

if TYPE_CHECKING:
    from demo.story.printer import StoryPrinter
    from demo.story.programs import Backend

__all__ = ["count_pairs", "print_newest_pair"]


def count_pairs(url: str) -> int:
    """Return the number of pairs of all routes that the collector at ``url`` has."""
    routes = Api(url).get("/v1/summary")["routes"]
    return sum(int(route["pairs"]) for route in routes)


def print_newest_pair(printer: StoryPrinter, url: str, route: str, backends: tuple[Backend, Backend]) -> None:
    """Print the prompt and both answers of the newest pair of a route; the first backend is stable."""
    collector = Api(url)
    newest = collector.get(f"/v1/pairs?route={route}&limit=1")["pairs"][0]
    pair = collector.get(f"/v1/pairs/{newest['id']}")
    prompt = json.loads(pair["primary"]["request"]["text"])["messages"][-1]["content"]
    printer.quote("prompt", prompt)
    for role, backend in zip(("primary", "shadow"), backends, strict=True):
        printer.quote(f"answer of {backend.name}", pair[role]["reply"]["text"] or "(empty)")
