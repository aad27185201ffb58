"""The story itself: shadow, canary to 100 %, then a bad candidate is taken back, with users all along."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shlex
import shutil
import signal
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from demo.processes import ProcessError
from demo.story import specs
from demo.story.stage import Backend, Ports, Stage, simulated
from demo.story.tell import Teller
from demo.traffic import SplitSample, Traffic, TrafficConfig, split_sample
from xds_server.cli.client import Api, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Options", "play"]

_Z_999: Final = 3.2905  # two-sided 99.9 %
_MODEL: Final = "chat-large"
_ROUTE: Final = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`users` is the size of the split sample; `keep` leaves everything running at the end."""

    folder: Path
    users: int = 20_000
    keep: bool = False
    vllm: Path | None = None


@dataclass(slots=True, kw_only=True)
class _Result:
    """What the last line says; `broken` lists promises that did not hold."""

    broken: list[str] = field(default_factory=list)
    split: dict[str, float] = field(default_factory=dict)
    moved_back: int = 0
    sampled: int = 0
    sample_failed: int = 0
    pairs: int = 0


def play(options: Options) -> int:
    """Play the story and return the exit code: 0 when every promise held."""
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    stage = Stage(folder=options.folder, ports=Ports.pick())
    with Teller() as teller:
        try:
            return asyncio.run(_Story(options, stage, teller).run())
        except (KeyboardInterrupt, asyncio.CancelledError):
            teller.plain("interrupted; everything is being ended")
            return 130
        except (ProcessError, Unreachable, TimeoutError) as error:
            teller.bad(str(error) or "something took too long")
            teller.plain(f"the logs are in {options.folder}")
            return 1
        finally:
            stage.stop()


class _Story:
    def __init__(self, options: Options, stage: Stage, teller: Teller) -> None:
        self._options = options
        self._stage = stage
        self._tell = teller
        self._api = Api(stage.api)
        self._result = _Result()
        self._began = time.monotonic()
        slow = options.vllm is not None
        self._traffic = [
            Traffic(
                TrafficConfig(
                    url=entry,
                    users=200,
                    rate=0.25 if slow else 15.0,
                    duration=None,
                    model=_MODEL,
                    user_prefix=f"user-{number}",
                    max_tokens=24 if slow else None,
                    request_timeout=180.0 if slow else 30.0,
                    max_in_flight=4 if slow else 256,
                    seed=number,
                )
            )
            for number, entry in enumerate(stage.entries, 1)
        ]

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        await self._raise_the_curtain()
        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(traffic.run()) for traffic in self._traffic]
            watcher = tasks.create_task(self._watch())
            try:
                await self._scenes()
                if self._options.keep:
                    code = self._epilogue()
                    await self._keep()
                    return code
            finally:
                for traffic in self._traffic:
                    traffic.stop()
                watcher.cancel()
            await asyncio.gather(*users)
        return self._epilogue()

    # The scenes

    async def _raise_the_curtain(self) -> None:
        stage, tell = self._stage, self._tell
        tell.scene("Setting the stage")
        self._old, self._new = await asyncio.to_thread(self._start_backends)
        for backend in (self._old, self._new):
            tell.say(f"{backend.label} at {backend.url}")
        await asyncio.to_thread(stage.start_collector)
        tell.say(f"mirror-collector at {stage.collector}")
        await asyncio.to_thread(stage.start_control_plane)
        tell.say(f"control plane at {stage.api}")
        await asyncio.to_thread(stage.start_gateways)
        for entry, admin in zip(stage.entries, stage.ports.admins, strict=True):
            tell.say(f"Envoy at {entry}, its own pages at http://127.0.0.1:{admin}")
        tell.plain()
        tell.plain(f"Look on in a browser: {stage.api}/routes/{_ROUTE} (nobody has to log in, on loopback)")
        tell.plain(f"Look on from another terminal: shiftplane watch {_ROUTE} --server {stage.api}")
        tell.plain(f"Logs, stores and the specs that are applied: {stage.folder}")
        # Real models on a CPU are too slow for a third answer.
        noise = 50 if self._options.vllm is None else 0
        path = specs.shadow(stage.folder, 1, _MODEL, self._old, self._new, percent=20, noise=noise)
        tell.scene("Scene 1: the new model answers in the shadow, users still get the old one")
        await self._command("apply", str(path))
        await self._until(lambda view: view["phase"] == "Shadowing", 30)

    def _start_backends(self) -> tuple[Backend, Backend]:
        if self._options.vllm is not None:
            from demo.story.vllm import start_both

            return start_both(self._stage, self._options.vllm, self._tell.say)
        return (
            simulated(self._stage, "v1", flavour="a", model="chat-large-v1"),
            simulated(self._stage, "v2", flavour="b", model="chat-large-v2"),
        )

    async def _scenes(self) -> None:
        await self._shadow()
        await self._canary()
        if self._options.vllm is None:
            await self._bad_candidate()

    async def _shadow(self) -> None:
        wanted = 60 if self._options.vllm is None else 6
        view = await self._until(
            lambda view: bool(view["pairs"]) and view["pairs"]["pairs"] >= wanted,
            60 if self._options.vllm is None else 900,
        )
        self._check(view["weights"]["v2"] == 0, "no user was served by the new model")
        if self._options.vllm is None:
            view = await self._until(lambda view: view["equivalence"] is not None, 30)
            found = view["equivalence"]
            self._tell.say(
                f"are the new answers as good? {found['verdict']} so far, from {found['trios']} pairs "
                "with a noise baseline (the old model against itself)"
            )
        self._tell.say(
            f"{view['pairs']['pairs']} pairs of answers to the same request were compared; the last:"
        )
        await asyncio.to_thread(self._show_a_pair)
        self._tell.still(view)

    async def _canary(self) -> None:
        self._tell.scene("Scene 2: users move to the new model, 5 % → 25 % → 50 % → 100 %")
        pause = "6s" if self._options.vllm is None else "20s"
        steps = [
            "setWeight: 5",
            "pause: {}",
            "setWeight: 25",
            "pause: {}",
            "setWeight: 50",
            f"pause: {{duration: {pause}}}",
            "setWeight: 100",
        ]
        path = specs.canary(self._stage.folder, 2, _MODEL, self._old, self._new, steps=steps, bake=pause)
        await self._command("apply", str(path))
        samples = []
        for number, weight in enumerate((5, 25)):
            await self._until(_waiting_at("v2", weight), 30)
            samples.append(await self._sample(weight, self._stage.entries[number % len(self._stage.entries)]))
            if number == 1:
                self._moved_back(*samples)
            await self._command("promote", _ROUTE, "-m", f"the split at {weight} % is right")
        view = await self._until(
            lambda view: view["phase"] == "Healthy", 60 if self._options.vllm is None else 600
        )
        self._tell.still(view)
        self._check(view["weights"]["v2"] == 100, "every user is served by the new model")

    async def _bad_candidate(self) -> None:
        self._tell.scene("Scene 3: the next candidate is bad, and the evidence takes it back")
        bad = await asyncio.to_thread(simulated, self._stage, "v3", flavour="a", model="chat-large-v3")
        self._tell.say(f"{bad.label} at {bad.url}")
        steps = ["setWeight: 20", "pause: {}", "setWeight: 100"]
        path = specs.canary(
            self._stage.folder, 3, _MODEL, self._new, bad, steps=steps, bake="10s", judged=True
        )
        await self._command("apply", str(path))
        await self._until(_waiting_at("v3", 20), 30)
        await asyncio.to_thread(_fault, bad, "slow")
        self._tell.say("v3 becomes ten times slower; nobody says anything")
        before = time.time()
        view = await self._until(lambda view: view["phase"] == "RolledBack", 60)
        after = time.time()
        self._check(
            view["outcome"] == "RolledBack", f"taken back by the evidence after {after - before:.0f} s"
        )
        self._tell.say(view["message"])
        for name in ("v2", "v3"):
            self._tell.say(
                f"{name}: median time to the whole answer {self._median(name):.0f} ms, as users saw it"
            )
        await asyncio.sleep(2)
        late = [
            record
            for traffic in self._traffic
            for record in traffic.records
            if record.began_at > after and record.variant == "v3"
        ]
        self._check(not late, "no request reached v3 after that")
        self._tell.still(view)

    async def _keep(self) -> None:
        self._tell.plain()
        old, new = self._old.url.partition("//")[2], self._new.url.partition("//")[2]
        self._tell.plain("Everything keeps running; Ctrl-C ends it. Elsewhere, a route of your own:")
        self._tell.plain("    . .venv/bin/activate && shiftplane delete chat")
        self._tell.plain(f"    shiftplane init mine --group demo --stable {old} --candidate {new}")
        self._tell.plain("    shiftplane apply mine.yaml && shiftplane watch mine")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    def _epilogue(self) -> int:
        result = self._result
        users = [traffic.snapshot() for traffic in self._traffic]
        sent = sum(snapshot.ok + snapshot.failed for snapshot in users) + result.sampled
        failed = sum(snapshot.failed for snapshot in users) + result.sample_failed
        self._check(failed == 0, f"{sent:,} user requests, {failed} failed")
        if died := self._stage.died():
            self._check(False, f"ended by themselves: {', '.join(process.name for process in died)}")
        result.pairs = self._pairs()
        self._tell.plain()
        summary: dict[str, Any] = {
            "demo": "fail" if result.broken else "pass",
            "requests": sent,
            "failed": failed,
            "moved_back": result.moved_back,
            "pairs": result.pairs,
            "split": result.split,
            "seconds": round(time.monotonic() - self._began, 1),
        }
        if result.broken:
            summary["broken"] = result.broken
            self._tell.plain(f"the logs are in {self._stage.folder}")
        sys.stdout.flush()
        self._tell.plain(json.dumps(summary))
        return 1 if result.broken else 0

    # What the scenes are made of

    async def _command(self, *words: str) -> None:
        self._tell.command(shlex.join(["shiftplane", *words]))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "xds_server.cli",
            *words,
            f"--server={self._stage.api}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        if process.returncode != 0:
            raise ProcessError(f"shiftplane {words[0]} failed:\n{output.decode()}")

    async def _until(self, holds: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                view = await asyncio.to_thread(self._api.get, f"/v1/routes/{_ROUTE}")
                if holds(view):
                    return dict(view)
                await asyncio.sleep(0.1)

    async def _watch(self) -> None:
        while True:
            # Whoever plays with it afterwards may delete the route.
            with contextlib.suppress(Unreachable, ApiError):
                view = await asyncio.to_thread(self._api.get, f"/v1/routes/{_ROUTE}")
                self._tell.picture(view, _together(self._traffic))
            await asyncio.sleep(0.5)

    async def _sample(self, weight: int, entry: str) -> SplitSample:
        users = self._options.users
        if self._options.vllm is not None:
            # Two servers on two cores answer a few words a second: the users there are have to do.
            self._tell.say("some users ask, for half a minute")
            await asyncio.sleep(30)
            return SplitSample(total=0, failed=0, seconds=0, by_variant={}, by_failure={}, by_user={})
        self._tell.say(f"{users:,} different users ask once each, through {entry}")
        sample = await split_sample(entry, users, 48, model=_MODEL)
        share, expected = sample.share("v2"), weight / 100
        band = _Z_999 * math.sqrt(expected * (1 - expected) / users)
        self._result.sampled += sample.total
        self._result.sample_failed += sample.failed
        self._result.split[str(weight)] = round(100 * share, 3)
        self._check(
            abs(share - expected) <= band,
            f"{100 * share:.2f} % of them got v2; {weight} % ± {100 * band:.2f} is within chance (99.9 %)",
        )
        return sample

    def _moved_back(self, before: SplitSample, after: SplitSample) -> None:
        had = {user for user, variant in before.by_user.items() if variant == "v2"}
        lost = sum(after.by_user.get(user) != "v2" for user in had)
        self._result.moved_back = lost
        if before.total:
            self._check(lost == 0, f"{len(had):,} users were on v2 at 5 %; at 25 % {lost} of them moved back")

    def _median(self, variant: str) -> float:
        times = [
            record.total_ms
            for traffic in self._traffic
            for record in list(traffic.records)[-400:]
            if record.variant == variant and record.failure is None
        ]
        return statistics.median(times[-50:]) if times else math.nan

    def _pairs(self) -> int:
        routes = Api(self._stage.collector).get("/v1/summary")["routes"]
        return sum(int(route["pairs"]) for route in routes)

    def _show_a_pair(self) -> None:
        collector = Api(self._stage.collector)
        newest = collector.get(f"/v1/pairs?route={_ROUTE}&limit=1")["pairs"][0]
        pair = collector.get(f"/v1/pairs/{newest['id']}")
        asked = json.loads(pair["primary"]["request"]["text"])["messages"][-1]["content"]
        self._tell.quote("a user asked", asked)
        for role, name in (
            ("primary", f"{self._old.name} answered"),
            ("shadow", f"{self._new.name} would say"),
        ):
            self._tell.quote(name, pair[role]["reply"]["text"] or "(nothing)")

    def _check(self, holds: bool, words: str) -> None:  # noqa: FBT001 - a promise and whether it holds
        if holds:
            self._tell.good(words)
        else:
            self._result.broken.append(words)
            self._tell.bad(words)


def _together(traffic: list[Traffic]) -> Any:
    """Return one snapshot of several streams of users: sums, and the first one's percentiles."""
    snapshots = [one.snapshot() for one in traffic]
    return replace(snapshots[0], ok=sum(s.ok for s in snapshots), failed=sum(s.failed for s in snapshots))


def _waiting_at(variant: str, weight: int) -> Callable[[dict[str, Any]], bool]:
    def holds(view: dict[str, Any]) -> bool:
        step = view["step"]
        return view["weights"].get(variant) == weight and bool(step) and step["waiting_for"] == "operator"

    return holds


def _fault(backend: Backend, mode: str) -> None:
    body = json.dumps({"mode": mode, "rate": 1.0}).encode()
    request = urllib.request.Request(  # noqa: S310 - loopback, built by us
        f"{backend.url}/_sim/faults", data=body, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
