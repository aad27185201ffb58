"""Names that travel: what the route tables of a proxy are called, and what their versions say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["APART", "ENTRY_ROUTES", "HOP_ROUTES", "holds_whole_table"]

ENTRY_ROUTES: Final = "entry"
HOP_ROUTES: Final = "hop"
APART: Final = "apart."
"""What the version of a table without its virtual hosts begins with, in every release."""


def holds_whole_table(holds: Mapping[str, str]) -> bool:
    """Return whether a proxy that holds these versions of route tables got its virtual hosts in the table.

    It must go on getting them there: Envoy answers 404 to everybody from the moment it takes a table without
    until its virtual hosts are there.
    """
    version = holds.get(ENTRY_ROUTES)
    return version is not None and not version.startswith(APART)
