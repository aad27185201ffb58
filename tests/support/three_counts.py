"""One Envoy, one collector and two simulated servers: what each of them reads of the same requests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from demo.simulated import SimulatedConfig, SimulatedVllm
from demo.simulated.faults import NO_FAULT
from demo.simulated.modes import FaultMode
from tests.support.guarded import BACKEND
from tests.support.simulated_apis import BODIES, PATHS, STREAMED
from xds_server.analysis.counts import Role
from xds_server.analysis.counts.proxy_counters import CounterTotals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from demo.simulated import Fault
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane
    from xds_server.analysis.counts import Counts

__all__ = ["CUT_AT", "HOLDING", "SHAPES", "Ask", "Books", "Counted", "Shape", "Trio", "trio"]

CUT_AT: Final = 1024
"""Bytes of each body that the collector gets of the shape `cut`, less than any of its sound answers has."""
HOLDING: Final = frozenset(
    {FaultMode.HANG, FaultMode.REFUSE_READ, FaultMode.HANG_AFTER_HEADERS, FaultMode.HANG_MIDSTREAM}
)
"""The faults that hold a request until the fault is changed."""
_KEPT: Final = 20_000
_LIMIT_SECONDS: Final = 40.0
_SPEC: Final = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{hosts: [{name}.test]}}
  backends: [{backends}]
  stable: v1
  candidate: v2
  retries: 1
  capture: {{maxBodySize: {capture}}}
  strategy: {{shadow: {{percentage: 100, limits: {{maxConcurrentRequests: 1024, timeout: 5m}}}}}}
"""
_COUNTER: Final = re.compile(r"^envoy_llm_(\w+?)(?:_total)?\{(.*)\} (\d+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(?:envoy_)?(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Requests of one kind; each kind has a route of its own, with the same name."""

    name: str
    api: str
    stream: bool = False
    capture: int = 1 << 20

    @property
    def path(self) -> str:
        """The path of the API."""
        return "/v1/models" if self.api == "models" else PATHS[self.api]

    @property
    def roles(self) -> tuple[Role, ...]:
        """The legs of each request; Envoy copies no request that declares no length, such as a GET."""
        return (Role.PRIMARY,) if self.api == "models" else (Role.PRIMARY, Role.SHADOW)

    def request(self) -> dict[str, Any]:
        """Return the arguments of `aiohttp.ClientSession.request`."""
        if self.api == "models":
            return {"method": "GET"}
        if self.api == "transcription":
            form = aiohttp.FormData()
            form.add_field("file", bytes(2000), filename="speech.wav", content_type="audio/wav")
            return {"method": "POST", "data": form}
        body = BODIES[self.api]
        if self.stream:
            body = body | {"stream": True}
            body |= {"stream_options": {"include_usage": True}} if "completions" in self.path else {}
        if self.api in STREAMED:
            body = body | {"max_output_tokens" if self.api == "responses" else "max_tokens": 40}
        return {"method": "POST", "json": body}


SHAPES: Final = (
    *(Shape(name=api, api=api) for api in (*PATHS, "models")),
    *(Shape(name=f"{api}-stream", api=api, stream=True) for api in STREAMED),
    Shape(name="cut", api="chat", stream=True, capture=CUT_AT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of a user; `leaves` is whether the client disconnects while a fault holds its answer."""

    number: int
    shape: Shape
    coding: str = "identity"
    leaves: bool = False


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the client of a request received; `status` is None if it has left before the headers."""

    status: int | None = None
    size: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What a server did at each attempt of a request: the name of the fault, and the status that it sent."""

    attempts: tuple[tuple[str, int | None], ...]
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What Envoy counted of one leg of a route, by class."""

    classes: Counter[str]
    retried: int


@dataclass(slots=True)
class Trio:
    """The running programs, and what the clients saw by number of the request."""

    plane: Plane
    envoy: Envoy
    session: aiohttp.ClientSession
    servers: dict[str, SimulatedVllm]
    seen: dict[int, Seen] = field(default_factory=dict)
    sent: Counter[tuple[str, Role]] = field(default_factory=Counter)

    async def send(self, asks: Iterable[Ask], fault: Fault) -> None:
        """Send requests under a fault; return when Envoy has counted both legs of each."""
        asks = list(asks)
        for server in self.servers.values():
            server.faults.put(fault)
        if fault.mode in HOLDING:
            await self._send_held(asks, fault)
        else:
            limit = asyncio.Semaphore(24)

            async def one(ask: Ask) -> None:
                async with limit:
                    await self._request(ask, asyncio.Event())

            await asyncio.gather(*map(one, asks))
        self.sent.update((ask.shape.name, role) for ask in asks for role in ask.shape.roles)
        await self._until(self._all_counted)

    async def _send_held(self, asks: list[Ask], fault: Fault) -> None:
        """Send requests that a fault holds; some clients leave, and the others wait until the fault ends."""
        leave, leavers = asyncio.Event(), sum(ask.leaves for ask in asks)
        starts = fault.mode in (FaultMode.HANG_AFTER_HEADERS, FaultMode.HANG_MIDSTREAM)
        tasks = [asyncio.create_task(self._request(ask, leave, starts=starts)) for ask in asks]
        copies = sum(Role.SHADOW in ask.shape.roles for ask in asks)
        await self._until(lambda: (self._held("v1", starts), self._held("v2", starts)) == (len(asks), copies))
        leave.set()
        before = sum(self.sent[shape.name, Role.PRIMARY] for shape in SHAPES)

        async def left() -> bool:
            found = await asyncio.to_thread(self.envoy_counts)
            ended = sum(of.classes.total() for (_, role), of in found.items() if role is Role.PRIMARY)
            return ended == before + leavers

        await self._until(left)
        for server in self.servers.values():
            server.faults.put(NO_FAULT)
        await asyncio.gather(*tasks)

    def _held(self, variant: str, starts: bool) -> int:
        """Return how many requests a server holds; with `starts`, those whose headers it has sent."""
        log = self.servers[variant].log
        running = log.running
        last = log.document(only=["x-number"], limit=running)["last"]
        return sum(entry["status"] is not None or not starts for entry in last)

    async def _request(self, ask: Ask, leave: asyncio.Event, *, starts: bool = False) -> None:
        seen = self.seen[ask.number] = Seen()
        headers = {
            "host": f"{ask.shape.name}.test",
            "accept-encoding": ask.coding,
            "x-number": str(ask.number),
        }
        arguments = ask.shape.request()
        exchange = self._exchange(ask.shape.path, seen, headers=headers, **arguments)
        if not ask.leaves:
            await exchange
            return
        task = asyncio.create_task(exchange)
        await leave.wait()
        if starts and ask.shape.stream:
            await self._until(lambda: seen.status is not None)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _exchange(self, path: str, seen: Seen, *, method: str, **arguments: Any) -> None:
        with suppress(aiohttp.ClientError):
            async with self.session.request(method, self.envoy.entry + path, **arguments) as answer:
                seen.status = answer.status
                async for chunk in answer.content.iter_any():
                    seen.size += len(chunk)
                seen.ended = True

    def envoy_counts(self) -> dict[tuple[str, Role], Counted]:
        """Return what Envoy has counted of each leg of each route, by class."""
        totals = CounterTotals()
        for name, labels, value in _COUNTER.findall(self.envoy.get("/stats/prometheus?usedonly&filter=llm")):
            totals.add_counter(name, float(value), dict(_LABEL.findall(labels)))
        return {(leg.route, leg.role): counted(counts) for leg, counts in totals.legs()}

    async def _all_counted(self) -> bool:
        found = await asyncio.to_thread(self.envoy_counts)
        return all(
            (name, role) in found and found[name, role].classes.total() == sent
            for (name, role), sent in self.sent.items()
        )

    def books(self, variant: str) -> dict[int, Books]:
        """Return the books of a server by number of the request."""
        last = self.servers[variant].log.document(only=["x-number", "x-request-id"], limit=_KEPT)["last"]
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in last:
            found[int(entry["headers"]["x-number"])].append(entry)
        return {
            number: Books(
                attempts=tuple((entry["fault"], entry["status"]) for entry in entries),
                request_id=entries[0]["headers"]["x-request-id"],
            )
            for number, entries in found.items()
        }

    def pairs(self) -> dict[str, dict[str, Any]]:
        """Return the pairs of the collector by id of the request."""
        found: dict[str, dict[str, Any]] = {}
        before = ""
        while True:
            page = self.plane.collector_api.get(f"/v1/pairs?limit=500{before}")
            for pair in page["pairs"]:
                assert pair["request_id"] not in found
                found[pair["request_id"]] = pair
            if page["next"] is None:
                return found
            before = f"&before={page['next']}"

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(_LIMIT_SECONDS):
            while True:
                value = condition()
                if await value if asyncio.iscoroutine(value) else value:
                    return
                await asyncio.sleep(0.02)


def counted(counts: Counts) -> Counted:
    """Return the classes of one leg; each request is in one of them."""
    failures = counts.failures
    classes = Counter(
        {
            "success": counts.answers,
            "failed": counts.failed - sum(failures.values()),
            "rejected": counts.rejected,
            "client error": counts.client_errors,
            "unanswered": counts.left_unanswered,
            "left": counts.left - counts.left_unanswered,
            **failures,
            **{f"unread {reason}": n for reason, n in counts.unread.items()},
        }
    )
    return Counted(classes=+classes, retried=counts.retried)


@asynccontextmanager
async def trio(plane: Plane) -> AsyncIterator[Trio]:
    """Start the servers, the collector, the control plane with a route per shape, and Envoy."""
    async with AsyncExitStack() as stack:
        servers: dict[str, SimulatedVllm] = {}
        for name in ("v1", "v2"):
            config = SimulatedConfig(
                name=name,
                first_token=0.0,
                inter_token=0.0,
                compress="accept",
                keep_requests=_KEPT,
                shutdown_timeout=0.1,
            )
            servers[name] = await stack.enter_async_context(SimulatedVllm(config))
        await asyncio.to_thread(plane.start_collector)
        await asyncio.to_thread(plane.start_control_plane)
        backends = ", ".join(
            BACKEND.format(name=name, address=server.url.removeprefix("http://"))
            for name, server in servers.items()
        )
        for shape in SHAPES:
            spec = _SPEC.format(name=shape.name, backends=backends, capture=f"{shape.capture // 1024}KiB")
            await asyncio.to_thread(plane.apply, spec)
        envoy = await asyncio.to_thread(plane.start_envoy, stats_interval=0.25)

        def mirrored(view: dict[str, Any]) -> bool:
            return bool(view["phase"] == "Shadowing" and view["step"]["waiting_for"] != "convergence")

        for shape in SHAPES:
            await asyncio.to_thread(plane.until, mirrored, shape.name)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        )
        yield Trio(plane, envoy, session, servers)
