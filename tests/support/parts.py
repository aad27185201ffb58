"""The report of a whole test run: a line per finished part, then the parts and the slowest tests.

A part is a folder of tests. Its seconds are those of its tests, added up over all workers.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Parts"]

_SLOWEST: Final = 10


@dataclass(slots=True)
class Part:
    """What is counted of one folder."""

    tests: int = 0
    ended: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


class Parts:
    """A plugin of the process that reports; it replaces the dots."""

    def __init__(self, config: pytest.Config) -> None:
        """`config` is that of the run."""
        self._config = config
        self._began = time.monotonic()
        self._parts: dict[str, Part] = {}
        self._tests: defaultdict[str, float] = defaultdict(float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the tests of a run in one process."""
        self._count(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Count the tests of a run with workers, which all collect the same."""
        if not self._parts:
            self._count(ids)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print nothing for a test that passes; a skip gets a line below, and so does a failure."""
        if report.passed and report.when != "call":
            return None
        if report.failed:  # The summary at the end needs a word.
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        return (report.outcome, "", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up a phase of a test; print the line of a part after its last one."""
        name = _part(report.nodeid)
        part = self._parts.setdefault(name, Part())
        part.seconds += report.duration
        self._tests[report.nodeid] += report.duration
        if report.outcome != "passed":
            reason = "" if report.failed else f": {_reason(report)}"
            self._line(f"{report.outcome.upper()} {report.nodeid} ({report.when}){reason}")
        if report.when == "call" or report.outcome != "passed":
            part.outcomes[report.outcome] += 1
        if report.when == "teardown":
            part.ended += 1
            if part.ended == part.tests:
                self._line(f"{_clock(time.monotonic() - self._began)}  {name}: {_summary(part)}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the parts and the slowest tests, the longest first."""
        write = terminalreporter.write_line
        terminalreporter.section("parts")
        wall = time.monotonic() - self._began
        for name, part in sorted(self._parts.items(), key=lambda item: -item[1].seconds):
            write(f"{part.seconds:8.1f} s  {part.ended:5d} tests  {name}")
        total = sum(part.seconds for part in self._parts.values())
        write(f"{total:8.1f} s  {sum(part.ended for part in self._parts.values()):5d} tests  all parts")
        write(f"{wall:8.1f} s  by the clock")
        terminalreporter.section(f"{_SLOWEST} slowest tests")
        for test, seconds in sorted(self._tests.items(), key=lambda item: -item[1])[:_SLOWEST]:
            write(f"{seconds:8.1f} s  {test}")

    def _count(self, ids: Iterable[str]) -> None:
        for test in ids:
            self._parts.setdefault(_part(test), Part()).tests += 1
        tests = sum(part.tests for part in self._parts.values())
        processes = max(1, len(self._config.getoption("tx", []) or []))
        self._line(f"{tests} tests in {len(self._parts)} parts, in {processes} test processes")

    def _line(self, text: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(text)


def _part(test: str) -> str:
    return "/".join(PurePosixPath(test.partition("::")[0]).parts[:2])


def _summary(part: Part) -> str:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(part.outcomes.items()))
    return f"{outcomes} in {part.seconds:.1f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
