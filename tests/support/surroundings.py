"""A program that prints its surroundings as JSON, for the tests of the launcher; `--wait`: it runs on."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Print, and exit with 3 unless it shall wait."""
    found = {
        "name": __name__,
        "arguments": sys.argv[1:],
        "environment": os.environ.get("SHIFTPLANE_TEST_VALUE"),
        "folder": str(Path.cwd()),
        "pid": os.getpid(),
        "session": os.getsid(0),
        "handled": [
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        ],
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "descriptors": [number for number in range(1_024) if _is_open(number)],
    }
    print(json.dumps(found), flush=True)  # noqa: T201 - it is a program
    if "--wait" in sys.argv:
        time.sleep(600)
    sys.exit(3)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
