"""Parts of the docs that are drawn from tables of the code."""

from __future__ import annotations

import re

from xds_server.rollout.diagram import diagram, guards

__all__ = ["DRAWN", "redrawn"]

DRAWN = ("docs/rollout.md",)
_BLOCK = re.compile(r"(<!-- begin: [^>]*-->\n).*(<!-- end -->)", re.DOTALL)


def redrawn(text: str) -> str:
    """Return a page with its drawn part as the table has it now."""
    drawn = f"```mermaid\n{diagram()}\n```\n\n{guards()}\n"
    return _BLOCK.sub(lambda found: found[1] + drawn + found[2], text)
