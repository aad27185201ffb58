from pathlib import Path

import pytest

from tests.support.drawn import DRAWN, redrawn
from xds_server.rollout import Phase
from xds_server.rollout.diagram import diagram

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", DRAWN)
def test_the_docs_show_the_table_as_it_is(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert redrawn(text) == text, "make golden draws it anew"


def test_every_phase_is_in_the_picture() -> None:
    assert all(phase.value in diagram() for phase in Phase)
