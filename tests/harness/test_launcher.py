"""A program that the launcher forks has what an executed one has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.processes import ProcessError, ReadyCheck
from tests.support.launcher import start_module
from tests.support.plane import eventually

if TYPE_CHECKING:
    from demo.processes import Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere programs are executed")


def run(folder: Path, *words: str) -> Process:
    return start_module("tests.support.surroundings", *words, name="program", folder=folder)


def test_it_has_surroundings_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFTPLANE_TEST_VALUE", "of this test")
    monkeypatch.chdir(tmp_path)
    process = run(tmp_path / "logs", "one", "two words")
    assert process.popen.wait(20) == 3
    found: dict[str, Any] = json.loads(process.log.read_text(encoding="utf-8"))
    assert found["name"] == "__main__"
    assert found["arguments"] == ["one", "two words"]
    assert found["environment"] == "of this test"
    assert found["folder"] == str(tmp_path)
    assert found["session"] == found["pid"] == process.pid != os.getsid(0)
    assert found["handled"] == [True, True]
    assert found["threads"] == 1
    assert found["descriptors"] == [0, 1, 2]


def test_its_end_is_reported(tmp_path: Path) -> None:
    running = run(tmp_path, "--wait")
    eventually(running.tail, lambda text: "handled" in text)
    assert running.running
    with pytest.raises(subprocess.TimeoutExpired):
        running.popen.wait(0.01)
    running.signal(signal.SIGTERM)
    assert running.popen.wait(20) == -signal.SIGTERM
    assert not running.running
    running.signal(signal.SIGTERM)
    killed = run(tmp_path, "--wait")
    killed.kill()
    assert killed.popen.returncode == -signal.SIGKILL


def test_a_program_that_is_not_ready_is_ended(tmp_path: Path) -> None:
    never = ReadyCheck(url="http://127.0.0.1:9/", timeout=0.3)
    with pytest.raises(ProcessError, match=r"not ready within 0\.3 s"):
        start_module("tests.support.surroundings", "--wait", name="slow", folder=tmp_path, ready=never)
    later = ReadyCheck(url=never.url)
    with pytest.raises(ProcessError, match=r"ended with exit code 3 before"):
        start_module("tests.support.surroundings", name="short", folder=tmp_path, ready=later)


def test_programs_end_with_the_test_process(tmp_path: Path) -> None:
    text = (
        "import os, signal; from pathlib import Path; from tests.support.launcher import start_module;"
        f"folder, module = Path({str(tmp_path)!r}), 'tests.support.surroundings';"
        "process = start_module(module, '--wait', name='x', folder=folder);"
        "print(process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
