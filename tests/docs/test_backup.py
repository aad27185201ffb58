"""Backups as described in operations.md: stores are copied while in use, and restored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from demo.processes import free_port
from tests.support.plane import Plane, eventually, route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = route(("v1", "127.0.0.1:9"), ("v2", "127.0.0.1:10"), "{canary: {stepWeights: [5, 100], interval: 1h}}")


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    running = Plane(tmp_path)
    yield running
    running.close()


def test_a_store_copied_while_in_use_can_be_restored(plane: Plane, tmp_path: Path) -> None:
    old = plane.start_control_plane(collector=False)
    plane.apply(SPEC)
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as store:
        store.execute("VACUUM INTO ?", (str(tmp_path / "copy.sqlite"),))
    plane.apply(SPEC.replace("stepWeights: [5, 100]", "stepWeights: [10, 100]"))
    assert plane.view()["generation"] == 2
    old.stop()

    for name in ("state.sqlite-wal", "state.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.sqlite").replace(tmp_path / "state.sqlite")
    plane.http = free_port()
    plane.start_control_plane(collector=False)
    view = eventually(plane.view, lambda found: bool(found["steps"]))
    assert (view["generation"], view["steps"][0]["weight"]) == (1, 5.0)


def test_a_collector_store_copied_while_in_use_can_be_restored(plane: Plane, tmp_path: Path) -> None:
    outcome = {"route": "chat", "metric": "rating", "unit": "ada", "value": 4, "id": "survey-17"}
    old = plane.start_collector()
    assert plane.collector_api.post("/v1/outcomes", outcome) == {"accepted": 1, "repeated": 0}
    with (
        closing(sqlite3.connect(tmp_path / "pairs.sqlite")) as store,
        closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy,
    ):
        store.backup(copy)
    old.stop()

    for name in ("pairs.sqlite-wal", "pairs.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.sqlite").replace(tmp_path / "pairs.sqlite")
    plane.collector_grpc, plane.collector_http = free_port(), free_port()
    plane.start_collector()
    assert plane.collector_api.post("/v1/outcomes", outcome) == {"accepted": 1, "repeated": 1}
