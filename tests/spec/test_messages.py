"""Every bad spec says exactly what it should."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from xds_server.spec import check_together, load

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "bad_specs"
BAD = sorted(FOLDER.glob("*.yaml"))


def test_there_are_many_and_no_orphans() -> None:
    assert len(BAD) >= 40
    assert {path.stem for path in BAD} == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_messages_are_as_agreed(path: Path) -> None:
    loaded = load(path.read_text(encoding="utf-8"), file=path.name)
    problems = (*loaded.problems, *check_together([loaded]))
    said = "".join(f"{problem}\n" for problem in problems)
    assert said == path.with_suffix(".txt").read_text(encoding="utf-8"), "run `make golden`"
    assert problems
    assert all(re.match(r"[^:]+:\d+:\d+: \S", line) for line in said.splitlines())


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_places_point_at_what_is_meant(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() or [""]
    for problem in load(text, file=path.name).problems:
        assert 1 <= problem.line <= len(lines) + 1
        last = problem.path.rsplit(".", 1)[-1]
        if problem.path and "[" not in last and "missing" not in problem.message and '"' not in last:
            here = lines[problem.line - 1][problem.col - 1 :]
            assert here.startswith(last) or not here.startswith(tuple("{[- ")), (problem, here)


def test_all_examples_are_good() -> None:
    root = Path(__file__).resolve().parents[2]
    examples = sorted((root / "envoy" / "examples").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        loaded = load(path.read_text(encoding="utf-8"), file=path.name)
        assert [str(problem) for problem in loaded.problems] == []
        assert loaded.routes


def test_the_readmes_spec_is_good() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    routes = [block for block in blocks if "kind: ModelRoute" in block]
    assert routes
    for block in routes:
        loaded = load(block, file="README.md")
        assert [str(problem) for problem in loaded.problems] == []
        assert yaml.safe_load(block)["metadata"]["name"] == loaded.routes[0].metadata.name
