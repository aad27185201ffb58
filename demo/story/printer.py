"""Output of the demo: one line per event and, in a terminal, a live panel of the route below them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from xds_server.cli.render import route_panel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from demo.traffic import TrafficSnapshot

__all__ = ["StoryPrinter"]

_LONGEST_QUOTE: Final = 90  # characters


class StoryPrinter:
    """Prints the demo's output; the live panel is redrawn in place in a terminal and omitted in a pipe."""

    def __init__(self) -> None:
        """Print nothing yet; the clock in front of each line starts now."""
        self._terminal = sys.stdout.isatty()
        self._console = Console(
            highlight=False, soft_wrap=not self._terminal, width=None if self._terminal else 200
        )
        self._started = time.monotonic()
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

    def heading(self, title: str) -> None:
        """Print an empty line and a bold title."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def line(self, text: str, *, style: str = "") -> None:
        """Print one line, prefixed with the seconds since the start."""
        clock = Text(f"{time.monotonic() - self._started:5.1f} s  ", style="dim")
        self._console.print(clock + Text(text, style=style))

    def passed(self, text: str) -> None:
        """Print a check that passed."""
        self.line(f"✔ {text}", style="green")

    def failed(self, text: str) -> None:
        """Print a check that failed, or an error."""
        self.line(f"✘ {text}", style="bold red")

    def command(self, text: str) -> None:
        """Print a shell command before it runs."""
        self.line(f"$ {text}", style="bold cyan")

    def quote(self, label: str, text: str) -> None:
        """Print the beginning of a prompt or an answer on one line."""
        flat = " ".join(text.split())
        shown = flat if len(flat) <= _LONGEST_QUOTE else f"{flat[:_LONGEST_QUOTE]}…"
        self._console.print(Text(f"{'':9}{label:>14}: ", style="dim") + Text(shown, style="italic"))

    def step(self, view: dict[str, Any], variant: str, weight: int, weights: Sequence[int]) -> None:
        """Print which step the rollout has reached, and how many proxies are synced.

        ``weights`` are the weights of all steps in percent; ``variant`` now has the weight ``weight``.
        """
        proxies = view["convergence"]
        self.line(
            f"Step {weights.index(weight) + 1} of {len(weights)}: {weight} % of users on {variant} "
            f"({proxies['acked']} of {proxies['connected']} proxies synced)"
        )

    def plain(self, text: str = "") -> None:
        """Print a line without the clock."""
        self._console.print(text)

    def update_live(self, view: dict[str, Any], traffic: TrafficSnapshot) -> None:
        """Redraw the live panel: the route, and the counts of the users' requests."""
        if self._live is None:
            return
        p50 = "-" if traffic.first_byte_p50_ms is None else f"{traffic.first_byte_p50_ms:.0f} ms"
        users = Text(
            f"users: {traffic.ok + traffic.failed:,} requests, {traffic.failed} failed, first byte p50 {p50}",
            style="bold green" if traffic.failed == 0 else "bold red",
        )
        self._live.update(Group(Text(), route_panel(view, time.time(), events=4), users))

    def panel(self, view: dict[str, Any]) -> None:
        """Print the panel of the route once, as a permanent part of the output."""
        self._console.print(route_panel(view, time.time(), events=4))
