"""Run one rollout under traffic from its first step to its end; an analysis block lasts one second."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo.processes import ReadyCheck, free_port
from tests.support.launcher import start_module
from tests.support.plane import Plane
from tests.support.steady_load import SteadyLoad

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TRIALS", "Outcome", "Trial", "run_trial", "start_backend"]

_SPEC: Final = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: chat}}
  match: {{path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, endpoints: ["127.0.0.1:{stable}"], passiveHealth: {{enabled: false}}}}
    - {{name: v2, endpoints: ["127.0.0.1:{candidate}"], passiveHealth: {{enabled: false}}}}
  stable: v1
  retries: 0
"""
_CANARY: Final = """\
  candidate: v2
  strategy:
    canary:
      stepWeights: [25, 50, 100]
      interval: 4s
  analysis:
    interval: 1s
    metrics:
      - {name: success-rate}
      - {name: duration-p50}
      - {name: duration-p99}
      - {name: tokens-per-request}
      - {name: valid-json-rate}
"""
_RATE: Final = 400.0
_BEFORE: Final = 5.0
_LONGEST: Final = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How the candidate differs, and which metric must roll it back; None if it must be promoted.

    In an `outage` a fifth of the responses of both backends are errors for some seconds.
    """

    name: str
    flags: tuple[str, ...] = ()
    reason: str | None = None
    outage: bool = False


TRIALS: Final = (
    Trial(name="equal"),
    Trial(name="4 % errors", flags=("--errors=0.04",), reason="success-rate"),
    Trial(name="2 % of requests 4 times slower", flags=("--slow=0.02",), reason="duration-p99"),
    Trial(name="1.5 times the tokens", flags=("--tokens=150",), reason="tokens-per-request"),
    Trial(name="JSON cut short", flags=("--truncate=0.04",), reason="valid-json-rate"),
    Trial(name="equal, shared outage", outage=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a rollout, and how long it took in seconds."""

    outcome: str | None
    message: str
    weight: float
    seconds: float
    codes: dict[str, int]
    view: dict[str, Any]

    def as_expected(self, trial: Trial) -> bool:
        """Return whether the result is the expected one, for the expected reason."""
        if trial.reason is None:
            return (self.outcome, self.weight) == ("Promoted", 100.0)
        return self.outcome == "RolledBack" and f"{trial.reason}: candidate" in self.message


async def run_trial(trial: Trial, folder: Path, *, seed: int, milliseconds: float = 12.0) -> Outcome:
    """Run a trial; everything it starts has ended when it returns.

    `milliseconds` is the median response time of the backends.
    """
    plane = Plane(folder)
    try:
        plane.start_control_plane(collector=False)
        ports = free_port(), free_port()
        usual = ("--errors=0.01", f"--ms={milliseconds}")
        for name, port, flags in (("v1", ports[0], ()), ("v2", ports[1], trial.flags)):
            start_backend(plane, name, port, (*usual, f"--seed={2 * seed + port % 2}", *flags))
        spec = _SPEC.format(stable=ports[0], candidate=ports[1])
        plane.apply(spec)
        envoy = plane.start_envoy(stats_interval=0.25)
        load = SteadyLoad(envoy.entry, seed, _RATE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run(_LONGEST + 2 * _BEFORE))
            await asyncio.sleep(_BEFORE)  # Traffic before the rollout is part of the trial.
            await asyncio.to_thread(plane.apply, spec + _CANARY)
            began = time.monotonic()
            if trial.outage:
                tasks.create_task(_outage(ports))
            view = await _ended(plane, began)
            load.stop()
    finally:
        plane.close()
    return Outcome(
        outcome=view["outcome"],
        message=view["message"],
        weight=view["weights"]["v2"],
        seconds=time.monotonic() - began,
        codes=dict(load.codes),
        view=view,
    )


def start_backend(plane: Plane, name: str, port: int, flags: tuple[str, ...]) -> None:
    """Start a backend for a trial."""
    ready = ReadyCheck(url=f"http://127.0.0.1:{port}/health")
    words = (f"--port={port}", *flags)
    process = start_module("tests.support.arm", *words, name=f"arm-{name}", folder=plane.folder, ready=ready)
    plane.processes.append(process)


async def _outage(ports: tuple[int, int]) -> None:
    await asyncio.sleep(2.0)
    for rate in (0.2, 0.01):
        for port in ports:
            await asyncio.to_thread(_request, f"http://127.0.0.1:{port}/outage?rate={rate}")
        await asyncio.sleep(4.0)


def _request(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read()


async def _ended(plane: Plane, began: float) -> dict[str, Any]:
    while True:
        view = await asyncio.to_thread(plane.view)
        if view["outcome"] is not None and view["phase"] in {"Healthy", "RolledBack"}:
            return view
        if time.monotonic() - began > _LONGEST:
            return view
        await asyncio.sleep(0.2)
