"""Which packages may import which, and what a quick command may load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"grpc", "aiohttp", "envoy_data_plane", "betterproto2", "rich", "prometheus_client", "sqlite3"}

LOADED = """
import sys
from click.testing import CliRunner
from xds_server.cli import main
result = CliRunner().invoke(main, {arguments!r})
assert result.exit_code == {code}, result.output
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def loaded_by(arguments: list[str], code: int = 0) -> set[str]:
    """Return the top-level modules that a command loads in a fresh interpreter."""
    program = LOADED.format(arguments=arguments, code=code)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("output", ["table", "json"])
def test_lint_loads_no_heavy_module(output: str) -> None:
    found = loaded_by(["lint", "-o", output, "envoy/examples/02-canary.yaml"])
    assert not found & HEAVY
    assert {"pydantic", "yaml", "click"} <= found, "the command read a spec"


def test_help_loads_no_heavy_module() -> None:
    assert not loaded_by(["--help"]) & (HEAVY | {"pydantic", "yaml"})


def test_a_worker_loads_no_envoy_messages() -> None:
    program = (
        "import sys, xds_server.xds.workers.worker; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    found = set(done.stdout.split())
    assert not found & {"envoy_data_plane", "betterproto2", "yaml", "aiohttp", "sqlite3"}
    assert "grpc" in found, "the worker module was imported"


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
