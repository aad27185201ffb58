"""Many routes behind one Envoy, each with backends, a strategy and users of its own, for tests of guards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from demo.simulated import SimulatedConfig, SimulatedVllm
from demo.simulated.faults import parse_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from demo.simulated import Fault
    from tests.support.envoy import Envoy
    from tests.support.plane import Plane

__all__ = ["BACKEND", "CANARY", "HALF", "Case", "Routes", "fault", "serving_routes"]

CANARY: Final = "{canary: {stickiness: {attribute: user.id}, steps: [{setWeight: %d}, {pause: {}}]}}"
HALF: Final = CANARY % 50
_SPEC: Final = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{hosts: [{name}.test]}}
  backends: [{backends}]
  stable: v1
  retries: 0
  attributes: {{user.id: {{header: x-user-id}}, tester: {{header: x-tester}}}}
"""
BACKEND: Final = (
    '{{name: {name}, endpoints: ["{address}"], passiveHealth: {{enabled: false}}, '
    "healthCheck: {{enabled: false}}}}"
)
_CHAT: Final = {
    "model": "chat-large",
    "messages": [{"role": "user", "content": "How do glaciers shape valleys?"}],
    "max_tokens": 8,
}
_LONGEST: Final = 60.0
_USERS: Final = 500


def fault(mode: str, **fields: Any) -> Fault:
    """Return a fault of the simulated server."""
    (found,) = parse_faults({"mode": mode, **fields})
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A route: how its backends answer, how its users send requests, and what becomes of the candidate.

    `faults` has the fault of each backend that has one; `others` are further backends besides v1 and v2, and
    `addresses` those that are not simulated. `analysis` is added to the YAML of the field, `more` to the
    spec. Users send their requests to the Envoy `envoy`, or to all if it is "". After `gives_up_after`
    seconds users disconnect; a share `canceled` of them does so after the first bytes, and a share `testers`
    has the header of testers. `rate` is in requests per second. `guard` is the name of the guard that acts;
    None if none may.
    """

    name: str
    guard: str | None = None
    faults: Mapping[str, Fault] = field(default_factory=dict)
    strategy: str = HALF
    analysis: str = ""
    more: str = ""
    candidate: bool = True
    others: tuple[str, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    body: Mapping[str, Any] = field(default_factory=lambda: _CHAT)
    stream: bool = False
    gives_up_after: float = _LONGEST
    canceled: float = 0.0
    inter_token: float = 0.0
    testers: float = 0.0
    envoy: str = ""
    rate: float = 10.0

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of all backends."""
        return ("v1", "v2", *self.others)

    def spec(self, addresses: Mapping[str, str], *, rolled_out: bool = True) -> str:
        """Return the YAML of the route; without a rollout, the stable backend serves all users."""
        backends = ", ".join(BACKEND.format(name=name, address=addresses[name]) for name in self.backends)
        text = _SPEC.format(name=self.name, backends=backends)
        if self.more:
            text += f"  {self.more}\n"
        if not rolled_out:
            return text
        text += f"  analysis: {{interval: 1s{self.analysis and f', {self.analysis}'}}}\n"
        if self.candidate:
            text += "  candidate: v2\n"
        return text + (f"  strategy: {self.strategy}\n" if self.strategy else "")


@dataclass(slots=True)
class Routes:
    """Running routes, and what their users received: `served` counts by (route, backend, is a tester).

    `servers` are those with a fault, by (route, backend); the others are one server for all routes.
    """

    plane: Plane
    envoys: Mapping[str, Envoy]
    session: aiohttp.ClientSession
    cases: Mapping[str, Case]
    addresses: Mapping[str, Mapping[str, str]]
    servers: Mapping[tuple[str, str], SimulatedVllm]
    served: Counter[tuple[str, str, bool]] = field(default_factory=Counter)

    async def apply(self, *, rolled_out: bool = True) -> None:
        """Apply the specs of all routes at once."""
        specs = (case.spec(self.addresses[name], rolled_out=rolled_out) for name, case in self.cases.items())
        await asyncio.to_thread(self.plane.apply, "---\n".join(specs))

    async def act(self, name: str, action: str) -> None:
        """Send a command of an operator."""
        request = {"actor": "test", "reason": "a test"}
        await asyncio.to_thread(self.plane.api.post, f"/v1/routes/{name}/{action}", request)

    async def views(self) -> dict[str, dict[str, Any]]:
        """Return the view of each route."""
        return await asyncio.to_thread(lambda: {name: self.plane.view(name) for name in self.cases})

    async def events(self, name: str) -> list[tuple[str, str]]:
        """Return the name and message of each event of a route, oldest first."""
        found = await asyncio.to_thread(self.plane.api.get, f"/v1/routes/{name}/events")
        return [(event["kind"], event["message"]) for event in found["events"]]

    async def until(
        self, done: Callable[[dict[str, Any]], bool], names: Iterable[str], *, within: float = 45.0
    ) -> dict[str, dict[str, Any]]:
        """Return the views of routes once `done` holds for each; those of the moment if time is over."""
        wanted, clock = list(names), asyncio.get_running_loop().time
        deadline = clock() + within
        while True:
            views = await self.views()
            if all(done(views[name]) for name in wanted) or clock() > deadline:
                return {name: views[name] for name in wanted}
            await asyncio.sleep(0.25)

    async def counted(self, requests: int, names: Iterable[str], *, within: float = 45.0) -> None:
        """Wait until the proxies have counted that many requests of users at each route's candidate."""

        def enough(view: dict[str, Any]) -> bool:
            return any(
                cost["variant"] == "v2" and cost["requests"] + cost["left"] >= requests
                for cost in view["costs"]
            )

        views = await self.until(enough, names, within=within)
        assert not (late := [name for name, view in views.items() if not enough(view)]), late

    async def run(self) -> None:
        """Send requests of all users until it is canceled."""
        async with asyncio.TaskGroup() as tasks:
            for case in self.cases.values():
                tasks.create_task(self._users(case))

    async def _users(self, case: Case) -> None:
        rng, clock = random.Random(case.name), asyncio.get_running_loop().time
        due = clock() + rng.random() / case.rate
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(max(0.0, due - clock()))
                due += 1 / case.rate
                user, tester = f"u{rng.randrange(_USERS)}", rng.random() < case.testers
                leaves = rng.random() < case.canceled
                tasks.create_task(self._request(case, user, tester=tester, leaves=leaves))

    async def _request(self, case: Case, user: str, *, tester: bool, leaves: bool) -> None:
        headers = {"host": f"{case.name}.test", "x-user-id": user} | ({"x-tester": "yes"} if tester else {})
        envoy = self.envoys[case.envoy or random.choice(list(self.envoys))]
        body = {**case.body, **({"stream": True} if case.stream else {})}
        with suppress(aiohttp.ClientError, TimeoutError):
            async with (
                asyncio.timeout(case.gives_up_after),
                self.session.post(envoy.entry + case.path, json=body, headers=headers) as answer,
            ):
                variant = answer.headers.get("x-shiftplane-variant", "none")
                self.served[case.name, variant, tester] += 1
                if leaves:
                    await answer.content.readany()
                    answer.close()
                else:
                    await answer.read()


@asynccontextmanager
async def serving_routes(
    plane: Plane, *cases: Case, binaries: Mapping[str, Path | None] | None = None
) -> AsyncIterator[Routes]:
    """Start the backends of all cases, the control plane, Envoys and the users; specs are not applied.

    `binaries` has the program of each Envoy by its name; by default there is one Envoy.
    """
    async with AsyncExitStack() as stack:
        addresses: dict[str, dict[str, str]] = {}
        servers: dict[tuple[str, str], SimulatedVllm] = {}
        sound: dict[float, str] = {}

        async def start(case: Case, name: str) -> str:
            if name in case.addresses:
                return case.addresses[name]
            mode = case.faults.get(name)
            if mode is None and case.inter_token in sound:
                return sound[case.inter_token]
            settings: dict[str, Any] = {} if mode is None else {"fault": mode}
            config = SimulatedConfig(
                name=name, first_token=0.0, inter_token=case.inter_token, shutdown_timeout=0.1, **settings
            )
            server = await stack.enter_async_context(SimulatedVllm(config))
            address = server.url.removeprefix("http://")
            if mode is None:
                sound[case.inter_token] = address
            else:
                servers[case.name, name] = server
            return address

        for case in cases:
            addresses[case.name] = {name: await start(case, name) for name in case.backends}
        await asyncio.to_thread(plane.start_control_plane, collector=False)
        envoys = {
            name: await asyncio.to_thread(plane.start_envoy, name, binary=binary, stats_interval=0.25)
            for name, binary in (binaries or {"envoy-1": None}).items()
        }
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        )
        routes = Routes(plane, envoys, session, {case.name: case for case in cases}, addresses, servers)
        users = asyncio.create_task(routes.run())
        try:
            yield routes
        finally:
            users.cancel()
            with suppress(asyncio.CancelledError):
                await users
