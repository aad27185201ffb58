"""Envoy, the collector and the books of the servers agree on every request, for each API and each fault.

The tables below follow from docs/outcomes.md and from what the simulated servers do, not from the product.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

import pytest

from demo.simulated.faults import parse_faults
from demo.simulated.modes import FaultMode
from tests.support.plane import eventually
from tests.support.three_counts import CUT_AT, HOLDING, SHAPES, Ask, Books, Shape, trio
from xds_server.analysis.counts import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.plane import Plane
    from tests.support.three_counts import Counted, Trio

pytestmark = [pytest.mark.e2e, pytest.mark.long]

REQUESTS: Final = 2_000
CODINGS: Final = ("gzip", "br", "zstd")
TEXT_APIS: Final = ("chat", "completions", "responses", "messages", "embeddings")
MARKED: Final = ("chat", "completions")
STATUSES: Final = {404: "rejected", 400: "client error", 503: "failed"}
BREAKS: Final = ("hang", "refuse_read", "hang_after_headers", "hang_midstream", "cut_stream")
MISCODED: Final = {
    "encoded": "",
    "claimed_encoding": "unread corrupt",
    "unknown_encoding": "unread encoding",
    "corrupt_gzip": "unread corrupt",
    "truncated_gzip": "unread corrupt",
    "gzip_bomb": "unread too_large",
}
"""What the collector reads of an answer whose header names an encoding; "" if it can decode it."""
ERRORS: Final = ("error_200", "error_200_unended")
UNSOUND: Final = (
    *(*ERRORS, *BREAKS, "html_200", "text_200", "empty_body", "unknown_json", "broken_json"),
    *("stop_early", "no_end_mark", "end_mark_only", "empty_text", "wrong_content_type"),
    *(fault for fault in MISCODED if fault != "encoded"),
    "unlabeled_encoding",
)
"""The faults with which a status of 200 is no answer that the client can use."""
NEED_TOOLS: Final = {"tool_name", "tool_arguments", "tool_values"}
"""Faults of requests with tools, which are none of these; such requests are answered without a fault."""
GOOD: Final = {"success"}
NOTHING: Final = {
    *("unread encoded", "unread shape", "unread other"),  # Envoy
    *("unread truncated", "unread binary", "unread too_large", "unread encoding"),  # the collector
    *("left", "unanswered", "not copied"),
}
"""What is evidence of nothing: neither success nor failure."""
UNSEEN_BY_ENVOY: Final = ("empty_text", "broken_json", "end_mark_only")
"""Faults of which Envoy may count a success, because it cannot see them; the collector does."""


def envoy_reads(ask: Ask, fault: str, status: int | None, *, left: bool) -> str:
    """Return the class in which Envoy must count a leg, by what the server did at the last attempt."""
    api, stream, encoded = ask.shape.api, ask.shape.stream, is_encoded(ask, fault)
    if left:
        held_back = not (stream or encoded or api == "speech")
        early = fault != "hang_midstream" or held_back
        # Envoy has no outcome of the answer to a GET, and so counts it as left in the middle.
        return "unanswered" if early and not (api == "models" and status) else "left"
    if fault in BREAKS:
        return "failed"
    if status != 200:
        return STATUSES[status or 0]
    if api == "models" and (encoded or fault in ("html_200", "text_200", "wrong_content_type")):
        return "unread other"
    return "unread encoded" if encoded else of_answer(ask.shape, fault)


def of_answer(shape: Shape, fault: str) -> str:
    """Return the class in which Envoy must count an answer without an encoding in its header."""
    api, stream = shape.api, shape.stream
    match fault:
        case "error_200" | "error_200_unended":
            return "in_band"
        case "html_200" | "wrong_content_type":
            return "format"
        case "text_200":
            return "format" if api in TEXT_APIS else "unread other"
        case "empty_body":
            return "empty"
        case "unknown_json":
            return "unread shape" if not stream or api in MARKED else "unended"
        case "broken_json" if not stream:
            return "invalid"
        case "stop_early" | "no_end_mark":
            return "unended"
        case "end_mark_only" if api in MARKED:
            return "empty"
        case "unlabeled_encoding" if api != "speech":
            return "empty" if stream else "invalid"
        case _:
            return {"speech": "unread other", "transcription": "unread shape"}.get(api, "success")


def collector_reads(ask: Ask, books: Books, size: int) -> str:
    """Return what the collector must read of a leg; `size` is that of the answer in bytes."""
    fault, status = books.attempts[-1]
    if fault in BREAKS:
        return "failed"
    if status != 200:
        return STATUSES[status or 0]
    if size > ask.shape.capture:
        return "unread truncated"
    if fault == "stop_early" and ask.coding != "identity":
        return "unread corrupt"  # The end of the encoding is missing as well.
    read = MISCODED.get(fault) or of_body(ask.shape, fault)
    # Envoy retries no copies, so the collector counts a retried request as failed.
    return "failed" if read == "success" and len(books.attempts) > 1 else read


def of_body(shape: Shape, fault: str) -> str:
    """Return what the collector must read of an answer that it can decode."""
    if shape.stream and fault in ("stop_early", "no_end_mark", "broken_json", "unlabeled_encoding"):
        return "failed"
    match fault:
        case "error_200" | "error_200_unended":
            return "failed"
        case "empty_body":
            return "unread missing"
        case "html_200" | "wrong_content_type" | "unknown_json" | "broken_json":
            return "unread unknown_format"
        case "text_200" if shape.api != "transcription":  # Text is an answer of that API.
            return "unread unknown_format"
        case _ if shape.api == "speech":
            return "unread binary"
        case "unlabeled_encoding":
            return "unread unknown_format"
        case "empty_text" if shape.api in ("embeddings", "score", "rerank"):
            return "unread unknown_format"
        case "empty_text" | "end_mark_only":
            return "empty"
        case _:
            return "success"


def is_encoded(ask: Ask, fault: str) -> bool:
    """Return whether the header of an answer with a body names an encoding."""
    chosen = ask.coding != "identity" and fault not in ("unlabeled_encoding", "empty_body")
    return chosen or fault in MISCODED


def collector_has(pair: dict[str, Any], role: Role) -> str:
    """Return what the collector has read of a leg, from its list of pairs."""
    comparison = pair["comparison"]
    if comparison["client_left"]:
        return "left"
    if role.value in comparison["unread"]:
        return f"unread {comparison['unread'][role.value]}"
    leg = comparison[role.value]
    if leg["status"] in STATUSES and leg["failure"] is None:
        return STATUSES[leg["status"]]
    return next((trait for trait in ("failed", "empty") if trait in leg["traits"]), "success")


def asks_of(mode: FaultMode, rng: random.Random, first: int) -> list[Ask]:
    """Return the requests that are sent under a fault: of each shape, with and without encodings."""
    holding = mode in HOLDING
    drawn = [
        (shape, coding, holding and leaves)
        for shape in SHAPES
        for coding, leaves in (("identity", True), ("identity", False), ("", True), ("", False))
        if shape.capture > CUT_AT or (coding and mode.value not in (*MISCODED, "unlabeled_encoding"))
    ]
    rng.shuffle(drawn)
    return [
        Ask(number=number, shape=shape, coding=coding or rng.choice(CODINGS), leaves=leaves)
        for number, (shape, coding, leaves) in enumerate(drawn, first)
    ]


def document(mode: FaultMode) -> dict[str, Any]:
    """Return the fault of a mode for every API, with short delays."""
    short = {"delay": 0.05}
    more: dict[FaultMode, dict[str, Any]] = {
        FaultMode.ERROR: {"status": 503},
        FaultMode.LATE_PING: short,
        FaultMode.LATE_ROLE: short,
    }
    apis = sorted({shape.api for shape in SHAPES})
    return {"mode": mode.value, "api": apis, **more.get(mode, {})}


async def test_books_envoy_and_collector_agree(plane: Plane) -> None:
    rng, sent = random.Random(11), list[Ask]()
    modes = rng.sample(sorted(FaultMode, key=lambda mode: mode.value), len(FaultMode))
    phases: dict[FaultMode, tuple[list[Ask], dict[tuple[str, Role], Counted]]] = {}
    async with trio(plane) as running:
        for mode in modes:
            asks = asks_of(mode, rng, len(sent))
            sent += asks
            await running.send(asks, parse_faults(document(mode))[0])
            phases[mode] = asks, running.envoy_counts()
        assert len(sent) >= REQUESTS
        copied = sum(Role.SHADOW in ask.shape.roles for ask in sent)
        pairs = await asyncio.to_thread(
            eventually, running.pairs, lambda pairs: len(pairs) >= copied, within=120
        )
        assert len(pairs) == copied, "the collector has a pair of each request that Envoy copies"
        books = {Role.PRIMARY: running.books("v1"), Role.SHADOW: running.books("v2")}
        hit = {attempt[0] for of in books.values() for one in of.values() for attempt in one.attempts}
        assert hit == {mode.value for mode in FaultMode} - NEED_TOOLS, "each fault has changed an answer"
        check_envoy(phases, books)
        check_collector(running, sent, books, pairs)
        await asyncio.to_thread(check_control_plane, running, phases[modes[-1]][1])


def leg_reads(ask: Ask, role: Role, books: dict[Role, dict[int, Books]]) -> str:
    """Return the class in which Envoy must count a leg of a request."""
    fault, status = books[role][ask.number].attempts[-1]
    return envoy_reads(ask, fault, status, left=ask.leaves and role is Role.PRIMARY)


def check_envoy(
    phases: dict[FaultMode, tuple[list[Ask], dict[tuple[str, Role], Counted]]],
    books: dict[Role, dict[int, Books]],
) -> None:
    """Compare what Envoy counted of each leg under each fault with the books."""
    before: dict[tuple[str, Role], Counter[str]] = defaultdict(Counter)
    retried: dict[tuple[str, Role], int] = defaultdict(int)
    wrong = {}
    for mode, (asks, counts) in phases.items():
        want: dict[tuple[str, Role], Counter[str]] = defaultdict(Counter)
        for ask in asks:
            for role in ask.shape.roles:
                want[ask.shape.name, role][leg_reads(ask, role, books)] += 1
                retried[ask.shape.name, role] += len(books[role][ask.number].attempts) > 1
        for key, counted in counts.items():
            if (found := counted.classes - before[key]) != want[key]:
                wrong[mode.value, *key] = (dict(found), dict(want[key]))
            before[key] = counted.classes
    assert not wrong, "(fault, route, role): (Envoy's count, expected)"
    assert {key: counted.retried for key, counted in counts.items()} == retried


def check_collector(
    running: Trio, sent: Iterable[Ask], books: dict[Role, dict[int, Books]], pairs: dict[str, dict[str, Any]]
) -> None:
    """Compare what the collector read of each leg with the books, and both readings with each other."""
    wrong, apart = Counter[Any](), Counter[Any]()
    for ask in sent:
        for role in ask.shape.roles:
            entry = books[role][ask.number]
            if Role.SHADOW not in ask.shape.roles:
                assert entry.request_id not in pairs
                continue
            found = collector_has(pairs[entry.request_id], role)
            want = "left" if ask.leaves else collector_reads(ask, entry, running.seen[ask.number].size)
            fault, status = entry.attempts[-1]
            if found != want:
                wrong[fault, ask.shape.name, role.value, found, want] += 1
            unsound = fault in UNSOUND or status != 200
            if is_apart(leg_reads(ask, role, books), found, unsound=unsound, books=entry):
                apart[fault, ask.shape.name, leg_reads(ask, role, books), found] += 1
    assert not wrong, "(fault, route, role, the collector's reading, expected): count"
    assert not apart, "(fault, route, Envoy's class, the collector's reading): count"


def is_apart(envoy: str, collector: str, *, unsound: bool, books: Books) -> bool:
    """Return whether one of two readings contradicts what the server did, other than by design."""
    if len(books.attempts) > 1:
        return envoy not in GOOD | NOTHING or collector not in {"failed"} | NOTHING
    if unsound:
        unseen = books.attempts[-1][0] in UNSEEN_BY_ENVOY and envoy in GOOD
        text = books.attempts[-1][0] == "text_200" and collector in GOOD and envoy in NOTHING
        return (envoy in GOOD and not unseen) or (collector in GOOD and not text)
    return envoy not in GOOD | NOTHING or collector not in GOOD | NOTHING


def check_control_plane(running: Trio, counts: dict[tuple[str, Role], Counted]) -> None:
    """Compare the classes that the control plane shows of each route with those of Envoy."""
    for shape in SHAPES:
        want = counts[shape.name, Role.PRIMARY].classes

        def counted(cost: dict[str, Any], total: int = want.total()) -> bool:
            return bool(cost["requests"] + cost["left"] == total)

        def cost(name: str = shape.name) -> dict[str, Any]:
            found = [cost for cost in running.plane.view(name)["costs"] if cost["variant"] == "v1"]
            return dict(found[0]) if found else {"requests": 0, "left": 0}

        found = eventually(cost, counted)
        kinds = {
            kind: want[kind] for kind in ("in_band", "invalid", "format", "unended", "empty") if want[kind]
        }
        assert found["failures"] == kinds
        assert found["failed"] == want["failed"] + sum(kinds.values())
        assert (found["rejected"], found["client_errors"]) == (want["rejected"], want["client error"])
        assert found["left"] == want["left"] + want["unanswered"]
        assert found["unread"] == {
            name.removeprefix("unread "): n for name, n in want.items() if name.startswith("unread ")
        }
