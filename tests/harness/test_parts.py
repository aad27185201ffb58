"""A run reports each finished folder of tests, and the slowest tests at its end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.parts import Parts


class Terminal:
    """Stores what a plugin prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def ensure_newline(self) -> None:
        """Do nothing: there are no dots."""

    def write_line(self, line: str) -> None:
        self.lines.append(line.strip())

    def section(self, title: str) -> None:
        self.lines.append(f"== {title}")


def report(test: str, when: Any, seconds: float, outcome: Any = "passed") -> pytest.TestReport:
    return pytest.TestReport(test, ("x", 1, "x"), {}, outcome, None, when, duration=seconds)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def parts(terminal: Terminal) -> Parts:
    plugins = SimpleNamespace(get_plugin=lambda _name: terminal)
    config: Any = SimpleNamespace(pluginmanager=plugins, getoption=lambda *_: ["popen", "popen"])
    return Parts(config)


def test_a_part_is_reported_after_its_last_test(parts: Parts, terminal: Terminal) -> None:
    tests = ["tests/a/test_x.py::one", "tests/a/b/test_y.py::two", "tests/c/test_z.py::three[d/e]"]
    parts.pytest_xdist_node_collection_finished(tests)
    parts.pytest_xdist_node_collection_finished(tests)
    assert terminal.lines == ["3 tests in 2 parts, in 2 test processes"]
    for test, seconds in zip(tests, (1.0, 2.5, 0.4), strict=True):
        parts.pytest_runtest_logreport(report(test, "setup", 0.1))
        parts.pytest_runtest_logreport(report(test, "call", seconds, "failed" if "two" in test else "passed"))
        parts.pytest_runtest_logreport(report(test, "teardown", 0.1))
    assert terminal.lines[1:] == [
        "FAILED tests/a/b/test_y.py::two (call)",
        "0:00  tests/a: 1 failed, 1 passed in 3.9 s",
        "0:00  tests/c: 1 passed in 0.6 s",
    ]
    terminal.lines.clear()
    found: Any = terminal
    parts.pytest_terminal_summary(found)
    assert terminal.lines == [
        "== parts",
        "3.9 s      2 tests  tests/a",
        "0.6 s      1 tests  tests/c",
        "4.5 s      3 tests  all parts",
        "0.0 s  by the clock",
        "== 10 slowest tests",
        "2.7 s  tests/a/b/test_y.py::two",
        "1.2 s  tests/a/test_x.py::one",
        "0.6 s  tests/c/test_z.py::three[d/e]",
    ]
