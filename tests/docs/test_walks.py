"""Tutorials and how-tos: their commands are run in order, with a real Envoy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.drawn import ROOT
from tests.support.pages.blocks import PAGES, SHELL, blocks, lines
from tests.support.plane import Plane
from tests.support.walk import LEFT_OUT, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOW_TO = [page for page in PAGES if page.startswith("docs/howto/")]
LED = [*HOW_TO, "docs/start.md"]
# Pages with commands between the text, and the sample that runs meanwhile.
BESIDE = {
    "docs/operations.md": "06-kill-switch.yaml",
    "docs/experiments.md": "03-ab-test.yaml",
    "k8s/README.md": "02-canary.yaml",
    "docs/api.md": "02-canary.yaml",
}
NOT_FOLLOWED = {"docs/reference/cli.md": "examples of the programs' help: test_commands.py parses them"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    running = Plane(tmp_path)
    yield running
    running.close()


def samples(page: str) -> list[str]:
    """Return the samples that a page mentions, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return list(dict.fromkeys(re.findall(r"envoy/examples/([\w-]+\.yaml)", text)))


@pytest.mark.e2e
@pytest.mark.parametrize("page", HOW_TO)
def test_how_to(plane: Plane, page: str) -> None:
    walk = Walk(plane)
    walk.stage(samples(page))
    walk.follow(page)
    assert len(walk.outputs) >= 4


@pytest.mark.e2e
@pytest.mark.long
def test_the_first_five_minutes(plane: Plane) -> None:
    Walk(plane).follow("docs/start.md")


@pytest.mark.e2e
@pytest.mark.long
def test_the_readme(plane: Plane) -> None:
    walk = Walk(plane)
    walk.serve_models({"v1": "chat-large", "v2": "chat-large"})
    walk.follow("README.md")


@pytest.mark.e2e
@pytest.mark.parametrize(("page", "sample"), BESIDE.items())
def test_commands_in_between(plane: Plane, page: str, sample: str) -> None:
    walk = Walk(plane)
    walk.stage([sample], apply=True)
    walk.answers["shiftplane login"] = lambda: "any will do where nobody has to log in\n"
    walk.follow(page)


@pytest.mark.long
def test_the_page_about_access(plane: Plane) -> None:
    walk = Walk(plane)

    def first() -> str:
        _, printed = walk.outputs[0]
        (token,) = re.findall(r"spt_\S+", printed)
        return f"{token}\n"

    walk.answers["shiftplane login"] = first
    walk.follow("docs/access.md")
    assert any("admin" in printed for line, printed in walk.outputs if line == "shiftplane whoami")


@pytest.mark.long
def test_the_collectors_page(plane: Plane) -> None:
    # Two of its commands need a store that no collector has open, and one needs a running collector.
    plane.start_collector().stop()
    plane.start_collector(f"--store={plane.folder / 'another.sqlite'}")
    Walk(plane).follow("docs/collector.md")
    assert (plane.folder / "pairs.parquet").exists()


def test_every_page_with_commands_is_followed() -> None:
    pages = {page for page in PAGES for block in blocks(page) if block.language in SHELL}
    assert pages == {*LED, *BESIDE, "README.md", "docs/access.md", "docs/collector.md", *NOT_FOLLOWED}


def test_every_how_to_has_its_sample() -> None:
    assert len(HOW_TO) >= 8
    assert all(samples(page) for page in HOW_TO)


def test_nothing_is_left_out_without_need() -> None:
    typed = [
        line for page in PAGES for block in blocks(page) if block.language in SHELL for line in lines(block)
    ]
    assert [start for start in LEFT_OUT if not any(line.startswith(start) for line in typed)] == []
