"""What proxies are told, file by file, and that the real Envoy takes it."""

from pathlib import Path

import pytest

from tests.support.envoy import inline, validate
from tests.support.goldens import GOLDEN, Case, cases, rendered, resources_of

CASES = cases()
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_resources_are_as_agreed(case: Case) -> None:
    texts = rendered(case)
    kept = {path.name: path.read_text(encoding="utf-8") for path in case.folder.glob("*")}
    assert texts == kept, "run `make golden` and read the difference"


def test_there_are_no_orphans() -> None:
    assert {path.name for path in (GOLDEN / "out").iterdir()} == {case.name for case in CASES}


@each
def test_the_real_envoy_takes_it(case: Case, tmp_path: Path) -> None:
    assert validate(inline(resources_of(case)), tmp_path) == ""


def test_a_world_envoy_refuses_is_seen_as_refused(tmp_path: Path) -> None:
    found = resources_of(CASES[0])
    next(iter(found["Cluster"].values()))["lb_policy"] = "NO_SUCH_POLICY"
    assert "NO_SUCH_POLICY" in validate(inline(found), tmp_path)
