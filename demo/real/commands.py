"""Runs the programs of a preparation, logs their output, shows progress and explains failures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from demo.real import recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Commands", "PrepareError", "clean_environment"]

_TICK: Final = 0.5
_PIPE_INTERVAL: Final = 15.0
_TAIL_BYTES: Final = 20_000
_KILL_WAIT: Final = 10.0
_LONGEST_LINE: Final = 160


class PrepareError(Exception):
    """A stage failed; the message names the stage, the reason and the log."""


class Commands:
    """Runs programs one after the other in one folder, with one log."""

    def __init__(self, layout: recipe.Layout, *, report: Callable[[str], None]) -> None:
        """Store the folder and the log of `layout`.

        `report` receives a progress line every 15 s. If it is `print` and stdout is a terminal, the progress
        is redrawn on one line of the terminal instead.
        """
        self._log = layout.log
        self._folder = layout.root
        self._report = report
        self._terminal = report is print and sys.stdout.isatty()

    def run(self, command: Sequence[str], *, limit: float, what: str) -> None:
        """Run one program for at most `limit` seconds; `what` names it in errors.

        Raises:
            PrepareError: The program failed or took longer.
        """
        with self._log.open("ab") as sink:
            sink.write(f"\n$ {' '.join(command)}\n".encode())
            sink.flush()
            start = sink.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=clean_environment(os.environ),
                cwd=self._folder,
            )
        try:
            code = self._watch(process, start, limit)
        finally:
            self._clear_line()
            if process.poll() is None:
                process.kill()
                process.wait(_KILL_WAIT)
        if code is None:
            raise PrepareError(f"{what} took longer than {limit:.0f} s; log: {self._log}")
        if code != 0:
            output = self._tail(start)
            reason = recipe.explain(output)
            last = "\n".join(f"  | {line[:_LONGEST_LINE]}" for line in output.splitlines()[-5:])
            why = f": {reason}" if reason else ""
            raise PrepareError(f"{what} failed{why}\n{last}\n  log: {self._log}")

    def _watch(self, process: subprocess.Popen[bytes], start: int, limit: float) -> int | None:
        """Wait for the end and show progress; return the exit code, or None after `limit` seconds."""
        began = reported = time.monotonic()
        while True:
            try:
                return process.wait(_TICK)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if now - began > limit:
                return None
            if self._terminal or now - reported >= _PIPE_INTERVAL:
                reported = now
                self._progress(now - began, self._tail(start))

    def _progress(self, seconds: float, output: str) -> None:
        last = output.replace("\r", "\n").strip().rpartition("\n")[2].strip()
        line = f"      {seconds:4.0f} s  {last or 'running'}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
        else:
            self._report(line[:110])

    def _clear_line(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", flush=True)

    def _tail(self, start: int) -> str:
        with self._log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` without the variables that make Python import foreign modules."""
    foreign = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    kept = {name: value for name, value in environment.items() if name not in foreign}
    return kept | {
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
    }
