"""Apply the spec files of a folder, such as a mounted ConfigMap, at startup and on each change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["SpecFolder"]

_POLL_SECONDS: Final = 1.0

log = structlog.get_logger()


class SpecFolder:
    """Watch the files `*.yaml` and `*.yml` of one folder.

    Removing a file does not delete its routes: deleting a route takes an explicit command.
    """

    def __init__(self, folder: Path, apply: Callable[[str, str], Awaitable[None]]) -> None:
        """Await `apply(text, file)` for each new or changed file."""
        self._folder = folder
        self._apply = apply
        self._applied: dict[Path, bytes] = {}

    async def run(self) -> None:
        """Watch the folder until canceled."""
        while True:
            await self.scan()
            await asyncio.sleep(_POLL_SECONDS)

    async def scan(self) -> None:
        """Apply the files that are new or changed since the last scan."""
        for path, content in await asyncio.to_thread(self._read):
            if self._applied.get(path) == content:
                continue
            self._applied[path] = content
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                log.warning(
                    "spec_file_unreadable", file=str(path), reason=f"not UTF-8 text (byte {error.start})"
                )
            else:
                await self._apply(text, str(path))

    def _read(self) -> list[tuple[Path, bytes]]:
        found = []
        try:
            for path in sorted(self._folder.iterdir()):
                if path.suffix in {".yaml", ".yml"} and path.is_file():
                    found.append((path, path.read_bytes()))  # noqa: PERF401 - keeps the files before an error
        except OSError as error:
            log.warning("spec_folder_unreadable", folder=str(self._folder), reason=str(error))
        return found
