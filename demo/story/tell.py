"""How the story is told: lines that read like a log in a pipe, a live picture below them in a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from xds_server.cli.render import route_panel

if TYPE_CHECKING:
    from types import TracebackType

    from demo.traffic import TrafficSnapshot

__all__ = ["Teller"]

_QUOTED: Final = 90  # characters


class Teller:
    """Prints the story; `picture` is redrawn in place in a terminal and left out elsewhere."""

    def __init__(self) -> None:
        """Nothing is printed before the first line."""
        self._terminal = sys.stdout.isatty()
        self._console = Console(
            highlight=False, soft_wrap=not self._terminal, width=None if self._terminal else 200
        )
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def scene(self, title: str) -> None:
        """Begin a part of the story."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def say(self, text: str, *, style: str = "") -> None:
        """Say what happens, with the seconds since the start."""
        clock = Text(f"{time.monotonic() - self._began:5.1f} s  ", style="dim")
        self._console.print(clock + Text(text, style=style))

    def good(self, text: str) -> None:
        """Say what was checked and held."""
        self.say(f"✔ {text}", style="green")

    def bad(self, text: str) -> None:
        """Say what was checked and did not hold."""
        self.say(f"✘ {text}", style="bold red")

    def command(self, text: str) -> None:
        """Show the command that is run."""
        self.say(f"$ {text}", style="bold cyan")

    def quote(self, who: str, words: str) -> None:
        """Print the beginning of what somebody said, on one line."""
        text = " ".join(words.split())
        shown = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
        self._console.print(Text(f"{'':9}{who:>14}: ", style="dim") + Text(shown, style="italic"))

    def plain(self, text: str = "") -> None:
        """Print a line without a clock."""
        self._console.print(text)

    def picture(self, view: dict[str, Any], traffic: TrafficSnapshot) -> None:
        """Show how the route and the users are doing just now."""
        if self._live is None:
            return
        p50 = "-" if traffic.first_byte_p50_ms is None else f"{traffic.first_byte_p50_ms:.0f} ms"
        users = Text(
            f"users: {traffic.ok + traffic.failed:,} requests, {traffic.failed} failed, first byte p50 {p50}",
            style="bold green" if traffic.failed == 0 else "bold red",
        )
        self._live.update(Group(Text(), route_panel(view, time.time(), events=4), users))

    def still(self, view: dict[str, Any]) -> None:
        """Print the picture once, to stay."""
        self._console.print(route_panel(view, time.time(), events=4))
