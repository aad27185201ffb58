"""Names of route tables, and the version prefix of tables without virtual hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENTRY_ROUTES", "MIRROR_ROUTES", "SEPARATE_VERSION_PREFIX", "has_inline_virtual_hosts"]

ENTRY_ROUTES: Final = "entry"
MIRROR_ROUTES: Final = "hop"
SEPARATE_VERSION_PREFIX: Final = "apart."
"""The version prefix of a route table whose virtual hosts are separate resources.

It must not change between releases: a reconnecting proxy reports the version that an earlier release sent.
"""


def has_inline_virtual_hosts(versions: Mapping[str, str]) -> bool:
    """Return whether a proxy with these versions of route tables has its virtual hosts in the table.

    Such a proxy must keep getting them there: Envoy answers 404 from the moment it accepts a table without
    virtual hosts until they arrive.
    """
    version = versions.get(ENTRY_ROUTES)
    return version is not None and not version.startswith(SEPARATE_VERSION_PREFIX)
