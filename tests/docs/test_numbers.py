"""The numbers in the pages match the results of the analysis."""

from __future__ import annotations

import re

from tests.support.drawn import ROOT
from tests.support.pages import story

PAGE = (ROOT / "docs" / "verdict-explained.md").read_text(encoding="utf-8")
VERDICTS = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")


def test_the_counts_of_the_first_minute() -> None:
    counts = re.search(r"failed\s+(\d+) of its (\d+) requests, and `v1` (\d+) of its ([\d,]+)\.", PAGE)
    assert counts is not None
    assert (
        f"| 1 min | Inconclusive | success-rate: candidate 98.00% ({counts[1]} of {counts[2]} failed), stable"
        in story.worse()
    )
    assert f"({counts[3]} of {counts[4]} failed); undecided" in story.worse().splitlines()[4]


def test_the_fortune_is_what_the_last_line_says() -> None:
    coins = re.search(r"the fortune is (\d+) coins", PAGE)
    assert coins is not None
    *_, last = story.worse().splitlines()
    assert "| Fail | " in last
    assert f"worse, evidence against chance {coins[1]} : 1;" in last


def test_each_example_ends_with_its_verdict() -> None:
    assert " Fail " not in story.alike()
    assert story.alike().splitlines()[-1].startswith("| 20 min | Pass |")
    assert " Fail " not in story.incident()
    assert story.incident().splitlines()[-1].startswith("| 15 min | Pass |")


def test_figures_are_those_of_the_table_of_the_bench() -> None:
    row = re.search(r"\| chi-square at every look \| \d+ / (\d+) / \d+ % ", VERDICTS)
    assert row is not None
    assert f"`bench/verdicts.py`: {row[1]} % for the chi-square test" in " ".join(PAGE.split())
