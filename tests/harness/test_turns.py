"""A test that measures time runs while no other test runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Item:
    """A test with or without the marker."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def get_closest_marker(self, name: str) -> bool | None:
        return True if name == "quiet" and self.quiet else None


def running(turns: Turns, *, quiet: bool) -> Callable[[], None]:
    """Begin a test; return what ends it."""
    item: Any = Item(quiet=quiet)
    protocol = turns.pytest_runtest_protocol(item)
    next(protocol)

    def end() -> None:
        with pytest.raises(StopIteration):
            protocol.send(True)

    return end


@pytest.mark.parametrize(
    ("first", "second", "waits"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_only_a_quiet_test_waits_and_is_waited_for(
    tmp_path: Path, first: bool, second: bool, waits: bool
) -> None:
    turns = Turns(tmp_path / "lock", owns_file=True)
    end = running(turns, quiet=first)
    began = threading.Event()

    def other() -> None:
        finish = running(turns, quiet=second)
        began.set()
        finish()

    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(0.3 if waits else 20) is not waits
    end()
    assert began.wait(20)
    thread.join()
