"""A pytest plugin that prints the status of each checklist item, one line per item and nothing else.

An item passes if all its tests pass. It is missing if one of them is marked as not built yet, or if it has no
test. It is left out if the checklist has a reason for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.checklist import CHECKLIST

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_BUILT = "not built yet: "
_NO_TEST = "no test"


class _Report:
    """Collects test outcomes by item."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, ...]] = {}
        self._passed: set[int] = set()
        self._failed: set[int] = set()
        self._missing: dict[int, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: Iterable[pytest.Item]) -> None:
        for item in items:
            self._items[item.nodeid] = tuple(number for m in item.iter_markers("item") for number in m.args)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        return report.outcome, "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for number in self._items.get(report.nodeid, ()):
            if report.failed:
                self._failed.add(number)
            elif report.skipped:
                reason = str(getattr(report, "wasxfail", "")).removeprefix("reason: ")
                reasons = self._missing.setdefault(number, [])
                reasons.extend({reason.removeprefix(_NOT_BUILT)} - set(reasons))
            elif report.when == "call":
                self._passed.add(number)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        statuses = {number: self._status(number) for number in CHECKLIST}
        lines = (
            f"{number:02} {status:<8}  {CHECKLIST[number].title}" + (f"  ({reason})" if reason else "")
            for number, (status, reason) in statuses.items()
        )
        # pytest ends the last line itself.
        session.config.get_terminal_writer().write("\n".join(lines))
        if ("missing", _NO_TEST) in statuses.values():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _status(self, number: int) -> tuple[str, str]:
        item = CHECKLIST[number]
        if number in self._failed:
            return "fail", "see below"
        if item.left_out:
            return "left out", item.left_out
        if number in self._missing:
            return "missing", "; ".join(self._missing[number])
        if number in self._passed:
            return "pass", item.note
        return "missing", _NO_TEST


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Report(), "conformance-report")
