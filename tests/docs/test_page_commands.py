"""The commands of the pages run as written, behind a real Envoy, and print the output of the pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.drawn import ROOT
from tests.support.page_runner import SKIPPED, PageRunner
from tests.support.pages.blocks import PAGES, SHELL, blocks, lines
from tests.support.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOW_TO = [page for page in PAGES if page.startswith("docs/howto/")]
GUIDES = [*HOW_TO, "docs/start.md"]
# Reference pages with commands, and the sample that is applied before they run.
WITH_SAMPLE = {
    "docs/operations.md": "06-kill-switch.yaml",
    "docs/experiments.md": "03-ab-test.yaml",
    "k8s/README.md": "02-canary.yaml",
    "docs/api.md": "02-canary.yaml",
}
NOT_RUN = {"docs/reference/cli.md": "test_commands.py parses the examples of the help texts"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    running = Plane(tmp_path)
    yield running
    running.close()


def samples(page: str) -> list[str]:
    """Return the samples that a page refers to, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return list(dict.fromkeys(re.findall(r"envoy/examples/([\w-]+\.yaml)", text)))


@pytest.mark.e2e
@pytest.mark.parametrize("page", HOW_TO)
def test_a_how_to_runs(plane: Plane, page: str) -> None:
    runner = PageRunner(plane)
    runner.start_stack(samples(page))
    runner.run(page)
    assert len(runner.outputs) >= 4


@pytest.mark.e2e
@pytest.mark.long
def test_the_start_page_runs(plane: Plane) -> None:
    PageRunner(plane).run("docs/start.md")


@pytest.mark.e2e
@pytest.mark.long
def test_the_readme_runs(plane: Plane) -> None:
    runner = PageRunner(plane)
    runner.serve_models({"v1": "chat-large", "v2": "chat-large"})
    runner.run("README.md")


@pytest.mark.e2e
@pytest.mark.parametrize(("page", "sample"), WITH_SAMPLE.items())
def test_the_commands_of_a_reference_page_run(plane: Plane, page: str, sample: str) -> None:
    runner = PageRunner(plane)
    runner.start_stack([sample], apply=True)
    runner.inputs["shiftplane login"] = lambda: "any token is accepted without authentication\n"
    runner.run(page)


@pytest.mark.long
def test_the_access_page_runs(plane: Plane) -> None:
    runner = PageRunner(plane)

    def first_token() -> str:
        _, printed = runner.outputs[0]
        (token,) = re.findall(r"spt_\S+", printed)
        return f"{token}\n"

    runner.inputs["shiftplane login"] = first_token
    runner.run("docs/access.md")
    assert any("admin" in printed for line, printed in runner.outputs if line == "shiftplane whoami")


@pytest.mark.long
def test_the_collector_page_runs(plane: Plane) -> None:
    # Two of its commands need a store that no collector has open, and one needs a running collector.
    plane.start_collector().stop()
    plane.start_collector(f"--store={plane.folder / 'another.sqlite'}")
    PageRunner(plane).run("docs/collector.md")
    assert (plane.folder / "pairs.parquet").exists()


def test_every_page_with_commands_is_run() -> None:
    pages = {page for page in PAGES for block in blocks(page) if block.language in SHELL}
    assert pages == {*GUIDES, *WITH_SAMPLE, "README.md", "docs/access.md", "docs/collector.md", *NOT_RUN}


def test_every_how_to_has_a_sample() -> None:
    assert len(HOW_TO) >= 8
    assert all(samples(page) for page in HOW_TO)


def test_every_skipped_command_occurs_in_a_page() -> None:
    written = [
        line for page in PAGES for block in blocks(page) if block.language in SHELL for line in lines(block)
    ]
    assert [prefix for prefix in SKIPPED if not any(line.startswith(prefix) for line in written)] == []
