"""`shiftplane replay`: decisions of another policy on recorded blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.support.plane import route
from xds_server.analysis.counts import Block, Counts, Leg, block_to_json
from xds_server.cli import main

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
V1, V2 = ("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002")


def recorded(failed: int, *, blocks: int = 12) -> str:
    lines = []
    for run, bad in ((1, 1), (2, failed)):
        for k in range(blocks):
            legs = {
                Leg(route="chat", variant="v2"): Counts(requests=100, failed=bad),
                Leg(route="chat", variant="v1"): Counts(requests=900, failed=9),
            }
            block = Block(start=1000.0 * run + 10 * k, seconds=10.0, legs=legs)
            lines.append(json.dumps({"run": run, **block_to_json(block)}))
    return "\n".join(lines)


def replayed(tmp_path: Path, more: str, text: str, *flags: str) -> tuple[int, str]:
    spec, blocks = tmp_path / "chat.yaml", tmp_path / "blocks.jsonl"
    spec.write_text(route(V1, V2, CANARY, more=more), encoding="utf-8")
    blocks.write_text(text, encoding="utf-8")
    found = CliRunner().invoke(main, ["replay", str(spec), "--blocks", str(blocks), *flags])
    return found.exit_code, found.output


STRICT = "analysis: {metrics: [{name: success-rate}]}"
LENIENT = "analysis: {metrics: [{name: success-rate, maxRatio: 20}]}"


def test_each_run_has_its_decisions_and_their_times(tmp_path: Path) -> None:
    code, text = replayed(tmp_path, STRICT, recorded(9), "-o", "json")
    assert code == 0
    one, two = json.loads(text)["runs"]
    assert one["outcome"] != "Fail"
    assert two["outcome"] == "Fail"
    assert two["decisions"][-1]["after"] < 60
    assert "worse" in two["decisions"][-1]["words"]


def test_another_policy_decides_differently(tmp_path: Path) -> None:
    _, text = replayed(tmp_path, LENIENT, recorded(9), "--run", "2")
    assert text.startswith("run 2, 12 blocks: Pass")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}", 'field "run" is missing'),
        ("[1]", "expected a JSON object, found [1]"),
        ("{", "it is not valid JSON"),
        ('{"run": "one"}', 'field "run" has the invalid value "one"'),
        ('{"run": 1, "start": 0, "seconds": 10, "legs": {}}', 'field "legs" has the invalid value {}'),
        ('{"run": 1, "start": 0, "seconds": 10, "legs": [{"route": "chat"}]}', 'field "variant" is missing'),
    ],
)
def test_an_invalid_line_is_reported_with_its_number(tmp_path: Path, line: str, reason: str) -> None:
    code, text = replayed(tmp_path, STRICT, recorded(9, blocks=1) + "\n" + line)
    assert code == 1
    assert f"{tmp_path / 'blocks.jsonl'}: line 3 is not a valid evidence block: {reason}" in text


def test_missing_blocks_are_reported(tmp_path: Path) -> None:
    assert replayed(tmp_path, STRICT, "") == (0, "there are no evidence blocks\n")
