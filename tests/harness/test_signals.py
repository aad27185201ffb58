"""Programs that tests start handle SIGINT and SIGTERM, whatever the shell left to the test run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What a test process does: it imports the conftest, then starts programs.
STARTS = """
import signal, subprocess, sys
{reset}
asked = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler,"
asked += " signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
subprocess.run([sys.executable, "-c", asked], check=True)
"""


def ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("reset", "handled"), [("import tests.conftest", "True True"), ("", "False False")], ids=["reset", "not"]
)
def test_programs_of_a_run_whose_signals_were_ignored_handle_them(reset: str, handled: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTS.format(reset=reset)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=ignore_signals,
    )
    assert done.stdout.strip() == handled
