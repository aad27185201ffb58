"""Measures the verdicts of a shadow on candidates with rare faults, and on answers that cannot be read.

Users are unlike each other: their shares of the traffic follow a Pareto distribution, one user can send 40 %
of all requests, and how often answers contain a tool call, vary and break differs by user. Only the first
pair of a user is evidence, as with `sessionAttribute`, unless `--no-units` counts every pair. Answers are
JSON bodies that pass through the collector's reader and comparison and the control plane's verdict, which is
assessed after every hundred pairs.

    python bench/shadow_rates.py --runs 100
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.equivalence import counts, leg
from mirror_collector.compare import Comparison, EvidenceBlock, compare
from mirror_collector.exchange import Body, Leg, Pair, Role
from xds_server.analysis.verdicts import (
    Equivalence,
    EquivalenceResult,
    assess_equivalence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHECK_EVERY = 100
_TOOLS = json.dumps(
    {
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": {"required": ["city"]}}},
            {"type": "function", "function": {"name": "search", "parameters": {"required": ["text"]}}},
        ]
    }
).encode()
_CITIES = ("Ulm", "Oslo", "Rome", "Lima", "Pune", "Cork")
_REQUEST = Body(data=_TOOLS, total=len(_TOOLS), content_type="application/json")


@dataclass(frozen=True, kw_only=True)
class User:
    """One user: shares of answers with a call and of answers that vary; how prone to faults (mean 1)."""

    calls: float
    varies: float
    prone: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A candidate and its traffic; `broken` is the share of faults among the answers `fault` applies to."""

    fault: Callable[[random.Random, str, str], Body] | None = None
    broken: float = 0.0
    only_calls: bool = True
    varies: float = 0.02
    heavy: bool = False
    heavy_breaks: bool = False
    """Whether all faults fall on the heaviest user, who gets nothing else."""


def _body(text: str, call: tuple[str, str] | None, **fields: Any) -> Body:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if call is not None:
        message["tool_calls"] = [{"function": {"name": call[0], "arguments": call[1]}}]
    choice = {"index": 0, "message": message, "finish_reason": "stop" if call is None else "tool_calls"}
    data = json.dumps({"choices": [choice]}).encode()
    return Body(**{"data": data, "total": len(data), "content_type": "application/json", **fields})


def _call(city: str) -> tuple[str, str]:
    return "weather", json.dumps({"city": city})


def _plain(text: str, city: str) -> Body:
    return _body(text, _call(city) if city else None)


def _cut_arguments(_rng: random.Random, text: str, city: str) -> Body:
    return _body(text, ("weather", _call(city)[1][:-1]))


def _wrong_name(_rng: random.Random, text: str, city: str) -> Body:
    return _body(text, ("wether", _call(city)[1]))


def _missing_argument(_rng: random.Random, text: str, city: str) -> Body:
    return _body(text, ("weather", json.dumps({"town": city})))


def _wrong_value(rng: random.Random, text: str, city: str) -> Body:
    return _body(text, _call(rng.choice([one for one in _CITIES if one != city])))


def _html(_rng: random.Random, _text: str, _city: str) -> Body:
    return Body(data=b"<html>", total=6, content_type="text/html")


def _unknown_encoding(_rng: random.Random, _text: str, _city: str) -> Body:
    return Body(data=b"\1\2\3", total=3, content_type="application/json", content_encoding="snappy")


SETTINGS = {
    "same model": Setting(),
    "same model, sampled": Setting(varies=0.3),
    "same model, one user has 40 %": Setting(heavy=True, varies=0.3),
    "1 % of calls: cut arguments": Setting(fault=_cut_arguments, broken=0.01),
    "1 % of calls: wrong name": Setting(fault=_wrong_name, broken=0.01),
    "1 % of calls: argument missing": Setting(fault=_missing_argument, broken=0.01),
    "1 % of calls: wrong value": Setting(fault=_wrong_value, broken=0.01),
    "1 % of calls: wrong value, no sampling": Setting(fault=_wrong_value, broken=0.01, varies=0.0),
    "5 % of calls: cut arguments": Setting(fault=_cut_arguments, broken=0.05),
    "1 % HTML": Setting(fault=_html, broken=0.01, only_calls=False),
    "always HTML": Setting(fault=_html, broken=1.0, only_calls=False),
    "always an unknown encoding": Setting(fault=_unknown_encoding, broken=1.0, only_calls=False),
    "30 % an unknown encoding": Setting(fault=_unknown_encoding, broken=0.3, only_calls=False),
    "only the user with 40 %: HTML": Setting(fault=_html, broken=1.0, heavy=True, heavy_breaks=True),
}


def _users(rng: random.Random, setting: Setting, number: int) -> tuple[list[User], list[float]]:
    """Return users and the cumulative weights of their requests."""
    weights = [rng.paretovariate(1.2) for _ in range(number)]
    if setting.heavy:
        weights[0] = sum(weights[1:]) * 0.4 / 0.6
    prone = [rng.paretovariate(2.0) / 2 for _ in range(number)]
    users = [
        User(calls=rng.betavariate(2, 3), varies=min(1.0, setting.varies * 2 * rng.random()), prone=prone[i])
        for i in range(number)
    ]
    total, cumulative = 0.0, []
    for weight in weights:
        total += weight
        cumulative.append(total)
    return users, cumulative


def pairs(rng: random.Random, setting: Setting, number: int) -> Iterator[tuple[int, bool, Comparison]]:
    """Yield user, whether the answers contain a call, and the comparison of each pair."""
    users, cumulative = _users(rng, setting, number)
    while True:
        (index,) = rng.choices(range(number), cum_weights=cumulative)
        user = users[index]
        with_call = rng.random() < user.calls
        city = rng.choice(_CITIES) if with_call else ""
        text = "" if with_call else f"the weather in {rng.choice(_CITIES)} is fine today"

        def drawn(city: str = city, text: str = text, user: User = user) -> tuple[str, str]:
            if rng.random() >= user.varies:
                return text, city
            return (text and f"{text} and {rng.choice(_CITIES)}", city and rng.choice(_CITIES))

        first, shadow, noise = (_plain(*drawn()) for _ in range(3))
        if setting.fault is not None and _breaks(rng, setting, user, heaviest=index == 0, call=with_call):
            shadow = setting.fault(rng, text, city)
        yield index, with_call, _compared(first, shadow, noise)


def _breaks(rng: random.Random, setting: Setting, user: User, *, heaviest: bool, call: bool) -> bool:
    if setting.heavy_breaks:
        return heaviest
    if setting.only_calls and not call:
        return False
    return rng.random() < (setting.broken * user.prone if setting.broken < 1 else 1.0)


@lru_cache(maxsize=50_000)
def _compared(primary: Body, shadow: Body, noise: Body) -> Comparison:
    bodies = {Role.PRIMARY: primary, Role.SHADOW: shadow, Role.NOISE: noise}
    legs = {role: _leg(role, body) for role, body in bodies.items()}
    return compare(Pair(primary=legs[Role.PRIMARY], shadow=legs[Role.SHADOW], noise=legs[Role.NOISE]))


def _leg(role: Role, body: Body) -> Leg:
    return replace(leg(role, ""), response=body, request=_REQUEST)


def run(seed: int, setting: Setting, most: int, *, units: bool = True) -> tuple[EquivalenceResult, int]:
    """Assess after every hundred pairs until a verdict or `most` pairs; return result and number of pairs."""
    rng = random.Random(seed)
    block, seen = EvidenceBlock(), set[int]()
    for n, (user, _call, comparison) in enumerate(pairs(rng, setting, 20 * most), start=1):
        first = not units or user not in seen
        seen.add(user)
        block.add(comparison, first_of_unit=first, first_baseline_of_unit=first)
        if n % _CHECK_EVERY == 0 or n == most:
            found = assess_equivalence(counts(block))
            if found.equivalence is not Equivalence.INCONCLUSIVE or n == most:
                return found, n
    raise AssertionError("the pairs never end")


def _interval(count: int, of: int) -> str:
    """Return a share with its 95 % Wilson interval, in percent."""
    z, share = 1.96, count / of
    center = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{100 * share:.0f} % [{100 * max(0.0, center - half):.1f}, {100 * min(1.0, center + half):.1f}]"


def main() -> None:
    """Print one line per setting, then all of it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=4_000, help="Maximum number of pairs per run.")
    parser.add_argument("--no-units", action="store_true", help="Count every pair of a user.")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"runs": arguments.runs, "pairs": arguments.pairs}
    for name, setting in SETTINGS.items():
        found = [
            run(seed, setting, arguments.pairs, units=not arguments.no_units)[0].equivalence
            for seed in range(arguments.runs)
        ]
        shares = {kind.value: found.count(kind) for kind in Equivalence}
        result[name] = {kind: count / arguments.runs for kind, count in shares.items()}
        words = ", ".join(f"{kind} {_interval(count, arguments.runs)}" for kind, count in shares.items())
        print(f"{name:40} {words}", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
