"""The content of files that a settings file refers to, such as secrets (pure: `read` does the I/O)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.spec.shape import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from xds_server.spec.document import Loc

__all__ = ["referenced_content"]


def referenced_content(loc: Loc, name: str, read: Callable[[str], str]) -> str | Finding:
    """Return the stripped content of a file, or a finding; it never quotes the content, possibly a secret."""
    try:
        found = read(name).strip()
    except UnicodeDecodeError as error:
        return Finding(loc, f"{name}: not UTF-8 text (byte {error.start})", "expected a text file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        return Finding(loc, f"{name}: {reason}", "expected a readable file")
    return found or Finding(loc, f"{name} is empty", "")
