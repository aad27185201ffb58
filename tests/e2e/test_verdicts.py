"""A real Envoy under traffic, backends with faults: who is taken back and why, and who is promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.trial import TRIALS, Trial, run_trial

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
async def test_a_candidate_ends_as_it_should(trial: Trial, tmp_path: Path) -> None:
    found = await run_trial(trial, tmp_path, seed=1)
    assert found.as_expected(trial), (
        f"{found.outcome} with {found.weight} %: {found.message}\n{found.view['analysis']}"
    )
    assert set(found.codes) <= {"200", "500"}, "nothing but what the backends said reached a user"
