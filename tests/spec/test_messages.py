"""Every invalid spec has exactly the expected messages, and every example is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from xds_server.spec import check_together, load

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "bad_specs"
BAD = sorted(FOLDER.glob("*.yaml"))


def test_every_spec_has_messages_and_every_message_a_spec() -> None:
    assert len(BAD) >= 40
    assert {path.stem for path in BAD} == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_messages_match_the_golden_file(path: Path) -> None:
    loaded = load(path.read_text(encoding="utf-8"), file=path.name)
    problems = (*loaded.problems, *check_together([loaded]))
    text = "".join(f"{problem}\n" for problem in problems)
    assert text == path.with_suffix(".txt").read_text(encoding="utf-8"), "run `make golden`"
    assert problems
    assert all(re.match(r"[^:]+:\d+:\d+: \S", line) for line in text.splitlines())


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_positions_point_at_the_key_of_the_problem(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() or [""]
    for problem in load(text, file=path.name).problems:
        assert 1 <= problem.line <= len(lines) + 1
        key = problem.path.rsplit(".", 1)[-1]
        if problem.path and "[" not in key and "missing" not in problem.message and '"' not in key:
            rest = lines[problem.line - 1][problem.col - 1 :]
            assert rest.startswith(key) or not rest.startswith(tuple("{[- ")), (problem, rest)


def test_the_example_specs_are_valid() -> None:
    root = Path(__file__).resolve().parents[2]
    examples = sorted((root / "envoy" / "examples").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        loaded = load(path.read_text(encoding="utf-8"), file=path.name)
        assert [str(problem) for problem in loaded.problems] == []
        assert loaded.routes


def test_the_specs_of_the_readme_are_valid() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    routes = [block for block in blocks if "kind: ModelRoute" in block]
    assert routes
    for block in routes:
        loaded = load(block, file="README.md")
        assert [str(problem) for problem in loaded.problems] == []
        assert yaml.safe_load(block)["metadata"]["name"] == loaded.routes[0].metadata.name
