"""Output helpers: colors in a terminal, plain text in a pipe, JSON and YAML on request."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "percent", "print_data", "seconds", "time_text"]


def console(*, stderr: bool = False) -> Console:
    """Return a console that uses neither wrapping nor colors in a pipe."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        soft_wrap=not terminal,
        highlight=False,
        markup=False,  # Brackets in reasons and error messages are text, not markup.
        emoji=False,
        width=None if terminal else 200,
    )


def print_data(data: Any, output: str) -> None:
    """Print JSON values as JSON or YAML."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def percent(value: float) -> str:
    """Return a percentage as text, such as `12.5 %`."""
    return f"{value:g} %"


def seconds(value: float) -> str:
    """Return a duration as text, such as `42 s`, `3 min 5 s`, `2 h 10 min` or `3 d 4 h`."""
    whole = round(value)
    if 0 < value < 10 and value != whole:
        return f"{value:.1f} s"
    if whole < 60:
        return f"{whole} s"
    for size, unit, small_size, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def time_text(at: float, now: float) -> str:
    """Return the local time of day, with the date if it is not today."""
    then = datetime.fromtimestamp(at, tz=UTC).astimezone()
    today = datetime.fromtimestamp(now, tz=UTC).astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M:%S")
