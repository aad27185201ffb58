"""Hundreds of random edits under traffic: the proxy rejects none of them, and no request fails."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from demo.traffic import Traffic, TrafficConfig
from tests.support.plane import Plane, eventually
from xds_server.cli.client import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.envoy import Envoy

pytestmark = [pytest.mark.e2e, pytest.mark.long]

SEED = 20_240
PAUSE_SECONDS = 0.12
SPEC = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{path: {{prefix: {prefix}}}}}
  backends:
{backends}
  stable: {stable}
{candidate}  attributes:
    user.id: {{header: x-user-id}}
{strategy}"""


@dataclass(slots=True)
class Edited:
    """The present specs, and random edits of them. Backends are (name, address)."""

    addresses: list[str]
    rng: random.Random
    stable: tuple[str, str] = ("", "")
    candidate: tuple[str, str] | None = None
    strategy: str = ""
    renamed: int = 0
    second: bool = False
    did: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.stable = self.backend()

    def backend(self) -> tuple[str, str]:
        """Return a backend with a new name."""
        self.renamed += 1
        return f"v{self.renamed}", self.rng.choice(self.addresses)

    def canary(self) -> str:
        first, second = sorted(self.rng.sample(range(1, 100), 2))
        return (
            f"canary: {{steps: [{{setWeight: {first}}}, {{pause: {{}}}}, {{setWeight: {second}}},"
            " {pause: {duration: 1s}}, {setWeight: 100}]}"
        )

    def shadow(self) -> str:
        return f"shadow: {{percentage: {self.rng.randint(1, 100)}}}"

    def text(self, name: str = "chat", prefix: str = "/v1/") -> str:
        backends = [self.stable] if self.candidate is None else [self.stable, self.candidate]
        return SPEC.format(
            name=name,
            prefix=prefix,
            backends="\n".join(f'    - {{name: {n}, endpoints: ["{where}"]}}' for n, where in backends),
            stable=self.stable[0],
            candidate="" if self.candidate is None else f"  candidate: {self.candidate[0]}\n",
            strategy=f"  strategy: {{{self.strategy}}}\n" if self.candidate is not None else "",
        )

    def edit(self, plane: Plane) -> None:
        """Make one random edit; one that is impossible in the present state changes nothing."""
        edits: list[Callable[[Plane], None]] = [
            self.add_candidate,
            self.drop_candidate,
            self.reweigh,
            self.change_strategy,
            self.promote,
            self.rename,
            self.switch,
            self.move,
            self.second_route,
        ]
        chosen = self.rng.choice(edits)
        self.did[chosen.__name__] += 1
        chosen(plane)

    def add_candidate(self, plane: Plane) -> None:
        self.candidate = self.backend()
        self.strategy = self.rng.choice([self.canary, self.shadow])()
        plane.apply(self.text())

    def drop_candidate(self, plane: Plane) -> None:
        self.candidate = None
        plane.apply(self.text())

    def reweigh(self, plane: Plane) -> None:
        self.strategy = self.canary()
        plane.apply(self.text())

    def change_strategy(self, plane: Plane) -> None:
        self.strategy = self.canary() if self.strategy.startswith("shadow") else self.shadow()
        plane.apply(self.text())

    def promote(self, plane: Plane) -> None:
        try:
            plane.api.post("/v1/routes/chat/promote", {"actor": "test"})
        except ApiError:
            self.did["promote refused"] += 1  # There may be nothing to promote at present.

    def rename(self, plane: Plane) -> None:
        self.stable = (self.backend()[0], self.stable[1])
        plane.apply(self.text())

    def switch(self, plane: Plane) -> None:
        """Make the candidate the stable backend."""
        if self.candidate is not None:
            self.stable, self.candidate = self.candidate, None
        plane.apply(self.text())

    def move(self, plane: Plane) -> None:
        """Change the address of the stable backend."""
        self.stable = (self.stable[0], self.rng.choice(self.addresses))
        plane.apply(self.text())

    def second_route(self, plane: Plane) -> None:
        self.second = not self.second
        if self.second:
            plane.apply(self.text("other", "/v1/chat/"))
        else:
            plane.api.delete("/v1/routes/other")


@pytest.mark.parametrize(("delta", "edits"), [(True, 200), (False, 100)], ids=["delta", "sotw"])
async def test_random_edits_cause_no_failure(plane: Plane, delta: bool, edits: int) -> None:
    plane.start_control_plane(collector=False)
    addresses = [plane.start_backend(name).address for name in ("a", "b")]
    edited = Edited(addresses, random.Random(SEED))
    plane.apply(edited.text())
    envoy = plane.start_envoy(delta=delta)
    plane.until(lambda view: view["phase"] == "Healthy")
    traffic = Traffic(TrafficConfig(url=envoy.entry, rate=50, duration=None, stream_share=0.3))
    users = asyncio.create_task(traffic.run())
    for _ in range(edits):
        await asyncio.to_thread(edited.edit, plane)
        # Some edits follow each other without a pause.
        await asyncio.sleep(PAUSE_SECONDS * edited.rng.choice((0, 1, 2)))
    await asyncio.to_thread(eventually, plane.view, lambda view: view["convergence"]["acked"] == 1, within=20)
    await asyncio.sleep(1)
    traffic.stop()
    result = await users
    assert result.failed == 0, (result, [e for e in traffic.records if not e.ok][:3], edited.did)
    assert result.ok > 300
    assert set(result.by_status) == {200}
    check_stats(envoy)


def check_stats(envoy: Envoy) -> None:
    bad = "update_rejected|update_failure|no_cluster|no_route|none_healthy|rq_503|rq_404|init_fetch_timeout"
    found = envoy.stats(bad)
    # A mirrored request in flight when its shadow is removed has no route in the hop; no user waits for it.
    errors = {name: value for name, value in found.items() if value and name != "http.hop.no_route"}
    assert errors == {}
    assert not envoy.config()["ClustersConfigDump"].get("dynamic_warming_clusters")
