"""Spec files of a folder, such as a mounted ConfigMap: applied at the start and whenever one changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["SpecFolder"]

_EVERY: Final = 1.0

log = structlog.get_logger()


class SpecFolder:
    """Watches `*.yaml` and `*.yml` of one folder.

    A file that is taken away leaves its routes running: deleting a route is an explicit command.
    """

    def __init__(self, folder: Path, apply: Callable[[str, str], Awaitable[None]]) -> None:
        """`apply(text, file)` is awaited for every file that is new or has changed."""
        self._folder = folder
        self._apply = apply
        self._seen: dict[Path, str] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.scan()
            await asyncio.sleep(_EVERY)

    async def scan(self) -> None:
        """Apply what is new since the last scan."""
        for path, text in await asyncio.to_thread(self._read):
            if self._seen.get(path) != text:
                self._seen[path] = text
                await self._apply(text, str(path))

    def _read(self) -> list[tuple[Path, str]]:
        found = []
        try:
            for path in sorted(self._folder.iterdir()):
                if path.suffix in {".yaml", ".yml"} and path.is_file():
                    text = path.read_text(encoding="utf-8", errors="replace")
                    found.append((path, text))
        except OSError as error:
            log.warning("spec_folder_unreadable", folder=str(self._folder), reason=str(error))
        return found
