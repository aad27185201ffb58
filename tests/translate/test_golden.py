"""Golden files of the resources per spec, and validation of each by a real Envoy."""

from pathlib import Path

import pytest

from tests.support.envoy import inline, validate
from tests.support.goldens import GOLDEN, Case, cases, rendered, resources_of

CASES = cases()
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_resources_equal_their_golden_files(case: Case) -> None:
    rendered_files = rendered(case)
    golden_files = {path.name: path.read_text(encoding="utf-8") for path in case.folder.glob("*")}
    assert rendered_files == golden_files, "run `make golden` and read the difference"


def test_every_golden_folder_has_a_case() -> None:
    assert {path.name for path in (GOLDEN / "out").iterdir()} == {case.name for case in CASES}


@each
def test_envoy_accepts_the_configuration(case: Case, tmp_path: Path) -> None:
    assert validate(inline(resources_of(case)), tmp_path) == ""


def test_validation_reports_a_configuration_that_envoy_rejects(tmp_path: Path) -> None:
    found = resources_of(CASES[0])
    next(iter(found["Cluster"].values()))["lb_policy"] = "NO_SUCH_POLICY"
    assert "NO_SUCH_POLICY" in validate(inline(found), tmp_path)
