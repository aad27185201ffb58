"""Rollouts with a real Envoy under traffic: faulty candidates are rolled back, equal ones promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.trial import TRIALS, Trial, run_trial

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
async def test_a_candidate_ends_as_it_should(trial: Trial, tmp_path: Path) -> None:
    # Slow enough that the delays of a busy machine do not hide a slow candidate.
    found = await run_trial(trial, tmp_path, seed=1, milliseconds=40)
    assert found.as_expected(trial), (
        f"{found.outcome} with {found.weight} %: {found.message}\n{found.view['analysis']}"
    )
    assert set(found.codes) <= {"200", "500"}, "users received only responses of the backends"
