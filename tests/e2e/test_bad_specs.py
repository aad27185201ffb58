"""A bad spec is rejected and changes nothing at the proxy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plane import Plane, route
from xds_server.cli.client import ApiError

pytestmark = pytest.mark.e2e

BAD = sorted((Path(__file__).resolve().parents[1] / "golden/bad_specs").glob("*.yaml"))


def test_every_bad_spec_is_refused_and_changes_nothing(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    plane.apply(route(("v1", "127.0.0.1:9")))
    envoy = plane.start_envoy()
    before = plane.until(lambda view: view["convergence"]["acked"] == 1)
    assert len(BAD) >= 40
    refused = 0
    for path in BAD:
        expected = path.with_suffix(".txt").read_text(encoding="utf-8")
        if all(": warning: " in line for line in expected.splitlines()):
            continue
        refused += 1
        with pytest.raises(ApiError) as caught:
            plane.api.post_spec(path.read_text(encoding="utf-8"), path.name, dry_run=False)
        assert caught.value.status == 422, path
        errors = [p for p in caught.value.body["problems"] if p["severity"] == "error"]
        assert len(errors) == sum(": warning: " not in line for line in expected.splitlines()), path
    assert refused >= 40
    after = plane.view()
    assert after["convergence"]["version"] == before["convergence"]["version"]
    assert [view["name"] for view in plane.api.get("/v1/routes")["routes"]] == ["chat"]
    assert envoy.stats("rds.entry.update_success") == {"http.entry.rds.entry.update_success": 1}


def test_the_command_says_all_and_fails(plane: Plane) -> None:
    plane.start_control_plane(collector=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "xds_server.cli",
            "apply",
            str(BAD[0]),
            f"--server=http://127.0.0.1:{plane.http}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "nothing was applied" in done.stderr
    assert plane.api.get("/v1/routes")["routes"] == []
