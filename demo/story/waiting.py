"""Waits until the route reaches a state, and explains in one line why a wait or the demo failed."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any, Final

import click

from demo.processes import ProcessError
from xds_server.cli.client import ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SceneError", "explained", "one_line", "reached", "seen", "until", "waiting_at"]

_POLL_SECONDS: Final = 0.2
_LONGEST_LINE: Final = 400
_LOG: Final = "demo.log"


class SceneError(Exception):
    """A part of the demo cannot finish; the message gives the reason in one line."""


async def until(
    read: Callable[[], dict[str, Any]],
    holds: Callable[[dict[str, Any]], bool],
    *,
    seconds: float,
    goal: str,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Poll the route until a condition holds, and return the route; ``goal`` describes the condition.

    ``read`` runs in a thread. A control plane that does not respond for a while is polled again. ``check``
    raises if there is no point in waiting, because a program has ended.

    Raises:
        SceneError: The condition did not hold within ``seconds``.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        try:
            view = await asyncio.to_thread(read)
        except (Unreachable, ApiError) as error:
            last = error.message
        else:
            if holds(view):
                return dict(view)
            last = seen(view)
        check()
        if clock() >= deadline:
            raise SceneError(f"waited {seconds:g} s for {goal}; last seen: {one_line(last)}")
        await asyncio.sleep(_POLL_SECONDS)


def seen(view: dict[str, Any]) -> str:
    """Return the state of a route in one line; fields that the view does not have are left out."""
    step, proxies, pairs = view.get("step"), view.get("convergence"), view.get("pairs")
    weights = ", ".join(f"{name} {weight:g} %" for name, weight in (view.get("weights") or {}).items())
    parts = [
        f"phase {view.get('phase', 'unknown')}",
        f"step waits for {step['waiting_for']}" if step and step.get("waiting_for") else "",
        f"weights {weights}" if weights else "",
        f"{proxies['acked']} of {proxies['connected']} proxies synced" if proxies else "",
        f"{pairs['pairs']} pairs" if pairs else "",
        str(view.get("message") or ""),
    ]
    return ", ".join(part for part in parts if part)


def waiting_at(variant: str, weight: int) -> Callable[[dict[str, Any]], bool]:
    """Return the condition that a variant has a weight and the step waits for an operator."""

    def holds(view: dict[str, Any]) -> bool:
        step = view["step"]
        return view["weights"].get(variant) == weight and bool(step) and step["waiting_for"] == "operator"

    return holds


def reached(variant: str, weight: int) -> Callable[[dict[str, Any]], bool]:
    """Return the condition that a variant has a weight at all proxies, or already a greater weight.

    The weight may have risen further between two polls: steps with a duration go on by themselves.
    """

    def holds(view: dict[str, Any]) -> bool:
        proxies = view["convergence"]
        current = view["weights"].get(variant) or 0
        return bool(current > weight or (current == weight and proxies["acked"] == proxies["connected"]))

    return holds


def explained(error: BaseException, folder: Path) -> str:
    """Return one line for an error that ended the demo, with the place of the logs.

    The traceback of an unexpected error is written to ``demo.log`` in the folder.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, SceneError | ProcessError | click.ClickException):
        return f"{one_line(str(error))}; logs: {folder}"
    log = folder / _LOG
    try:
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        log = folder
    return f"unexpected {type(error).__name__}: {one_line(str(error))}; log: {log}"


def one_line(text: str) -> str:
    """Return the first and the last line of a text as one; most logs have the cause in their last line."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    joined = lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}" if lines else ""
    return joined if len(joined) <= _LONGEST_LINE else f"{joined[:_LONGEST_LINE]}…"
