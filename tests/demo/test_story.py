"""The demo when a part of it cannot finish: one line, no traceback, nothing left running."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from demo.processes import ProcessError
from demo.story import Options, play
from demo.story.play import _Story
from demo.story.programs import Backend, Ports, Programs
from demo.story.waiting import SceneError, explained, one_line, reached, seen, until, waiting_at
from xds_server.cli.client import ApiError, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from demo.processes import Process

VIEW: dict[str, Any] = {
    "phase": "Progressing",
    "step": {"waiting_for": "operator"},
    "weights": {"v1": 95, "v2": 5},
    "convergence": {"acked": 1, "connected": 2},
    "pairs": {"pairs": 12},
    "message": "",
}
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def nothing() -> None:
    """Find no program that ended."""


async def test_a_wait_that_ends_reports_what_it_waited_for_and_what_it_saw() -> None:
    with pytest.raises(SceneError) as caught:
        await until(lambda: VIEW, waiting_at("v2", 25), seconds=0, goal="25 % on v2", check=nothing)
    assert str(caught.value) == (
        "waited 0 s for 25 % on v2; last seen: phase Progressing, step waits for operator, "
        "weights v1 95 %, v2 5 %, 1 of 2 proxies synced, 12 pairs"
    )


@pytest.mark.parametrize(
    "error", [Unreachable("http://x", "timed out"), ApiError(503, {"detail": "not ready"})]
)
async def test_a_control_plane_that_does_not_respond_is_polled_again(error: Exception) -> None:
    responses: list[Any] = [error, VIEW]

    def read() -> dict[str, Any]:
        response = responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return dict(response)

    view = await until(read, waiting_at("v2", 5), seconds=60, goal="5 % on v2", check=nothing)
    assert view == VIEW
    responses.append(error)
    with pytest.raises(SceneError, match=r"last seen: (no response from a control plane|not ready)"):
        await until(read, waiting_at("v2", 5), seconds=0, goal="5 % on v2", check=nothing)


@pytest.mark.parametrize(
    ("weight", "acked", "holds"), [(25, 2, False), (50, 1, False), (50, 2, True), (100, 1, True)]
)
def test_a_weight_that_rose_further_counts_as_reached(weight: int, acked: int, *, holds: bool) -> None:
    view = VIEW | {"weights": {"v2": weight}, "convergence": {"acked": acked, "connected": 2}}
    assert reached("v2", 50)(view) is holds


def test_what_was_seen_needs_no_field() -> None:
    assert seen({}) == "phase unknown"
    assert seen({"phase": "Degraded", "step": None, "message": "no endpoint"}) == (
        "phase Degraded, no endpoint"
    )


def test_long_texts_become_one_line() -> None:
    assert one_line("a  b\n\n  c\nd: e\n") == "a b d: e"
    assert one_line("") == ""
    assert len(one_line("x" * 5000)) < 500


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SceneError("waited"), "waited; logs: {folder}"),
        (ProcessError("x ended:\n 1\n last"), "x ended: last; logs: {folder}"),
        (ApiError(404, {"detail": "no route"}), "no route; logs: {folder}"),
        (ExceptionGroup("tasks", [SceneError("inner")]), "inner; logs: {folder}"),
        (KeyError("pairs"), "unexpected KeyError: 'pairs'; log: {folder}/demo.log"),
    ],
)
def test_every_error_is_one_line(error: Exception, line: str, tmp_path: Path) -> None:
    assert explained(error, tmp_path) == line.format(folder=tmp_path)
    assert (tmp_path / "demo.log").exists() is isinstance(error, KeyError)


def test_an_error_is_one_line_without_a_folder(tmp_path: Path) -> None:
    assert explained(ValueError("x"), tmp_path / "absent") == (
        f"unexpected ValueError: x; log: {tmp_path / 'absent'}"
    )


class StuckApi:
    """A control plane whose route never changes."""

    phase = ""

    def __init__(self, server: str) -> None:
        self.server = server

    def get(self, path: str) -> dict[str, Any]:
        return VIEW | {"phase": StuckApi.phase, "pairs": None, "name": path}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Replace the demo's programs by two that sleep, its commands by none, and its control plane."""
    processes: list[Process] = []

    async def start_programs(story: _Story) -> None:
        backend = Backend(name="v1", address="127.0.0.1:9", model="m", label="v1")
        story._old = story._new = backend
        await asyncio.to_thread(story._programs.start, "one", SLEEP)
        await asyncio.to_thread(story._programs.start, "two", SLEEP)
        processes.extend(story._programs.processes)

    async def command(_: _Story, *arguments: str) -> None:
        del arguments

    monkeypatch.setattr(_Story, "_start_programs", start_programs)
    monkeypatch.setattr(_Story, "_command", command)
    monkeypatch.setattr(sys.modules["demo.story.play"], "Api", StuckApi)
    return processes


@pytest.mark.parametrize(
    ("phase", "goal"), [("Pending", "phase Shadowing"), ("Shadowing", "60 pairs of answers")]
)
def test_a_part_that_cannot_finish_prints_one_line_and_stops_its_programs(
    started: list[Process],
    phase: str,
    goal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(StuckApi, "phase", phase)
    folder = tmp_path / "demo"
    assert play(Options(folder=folder, limit_scale=0.0)) == 1
    out, err = capsys.readouterr()
    failures = [line for line in out.splitlines() if "✘" in line]
    assert len(failures) == 1
    assert f"waited 0 s for {goal}; last seen: phase {phase}" in failures[0]
    assert failures[0].endswith(f"logs: {folder}")
    assert out.rstrip().splitlines()[-1] == failures[0]
    assert "Traceback" not in out + err
    assert len(started) == 2
    assert not any(process.running for process in started)


def test_a_program_that_ended_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def start_programs(story: _Story) -> None:
        raise_ = [sys.executable, "-c", "raise SystemExit('port in use')"]
        process = story._programs.start("collector", raise_)
        await asyncio.to_thread(process.popen.wait, 60)
        await story._until(lambda _: False, 3600, "the impossible")

    monkeypatch.setattr(_Story, "_start_programs", start_programs)
    monkeypatch.setattr(StuckApi, "phase", "Pending")
    monkeypatch.setattr(sys.modules["demo.story.play"], "Api", StuckApi)
    assert play(Options(folder=tmp_path / "demo")) == 1
    (failure,) = [line for line in capsys.readouterr().out.splitlines() if "✘" in line]
    assert "collector ended with exit code 1" in failure
    assert "port in use" in failure
    assert "collector.log" in failure


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(
    started: list[Process],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(_: _Story) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(StuckApi, "phase", "Shadowing")
    monkeypatch.setattr(_Story, "_shadow", broken)
    assert play(Options(folder=tmp_path / "demo")) == 1
    out, err = capsys.readouterr()
    assert (
        out.rstrip()
        .splitlines()[-1]
        .endswith(f"unexpected KeyError: 'weights'; log: {tmp_path / 'demo' / 'demo.log'}")
    )
    assert "Traceback" not in out + err
    assert "Traceback" in (tmp_path / "demo" / "demo.log").read_text()
    assert not any(process.running for process in started)


def test_one_program_that_does_not_end_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    programs = Programs(folder=tmp_path, ports=Ports.pick())
    first = programs.start("first", SLEEP)
    stuck = programs.start("stuck", SLEEP)
    original = stuck.popen
    stuck.popen = Unending()
    programs.stop()
    assert not first.running
    original.send_signal(9)
    original.wait(60)


class Unending:
    """A process that no signal ends."""

    pid = 0
    returncode: int | None = None

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("stuck", timeout or 0)

    def send_signal(self, sig: int, /) -> None:
        """Ignore the signal."""
