"""The demo's three parts: shadow, canary to 100 %, automatic rollback; users send requests all the time."""

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
from demo.story.printer import StoryPrinter
from demo.story.programs import Backend, Ports, Programs, start_simulated
from demo.traffic import SplitSample, Traffic, TrafficConfig, split_sample
from xds_server.cli.client import Api, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Options", "play"]

_Z_999: Final = 3.2905  # two-sided 99.9 %
_MODEL: Final = "chat-large"
_ROUTE: Final = "chat"
_USERS: Final = 200  # per Envoy
_SAMPLE_CONNECTIONS: Final = 200
_CANARY_WEIGHTS: Final = (5, 25, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of one demo.

    `folder` receives logs, databases and specs, and is emptied first. `users` is the size of the sample that
    measures the split. `keep` leaves all programs running at the end. `vllm` is the folder of a prepared real
    vLLM; None uses simulated servers.
    """

    folder: Path
    users: int = 20_000
    keep: bool = False
    vllm: Path | None = None


@dataclass(slots=True, kw_only=True)
class _Result:
    """The fields of the JSON summary that is printed last; `broken` lists the checks that failed."""

    broken: list[str] = field(default_factory=list)
    split: dict[str, float] = field(default_factory=dict)
    moved_back: int = 0
    sampled: int = 0
    sample_failed: int = 0
    pairs: int = 0


def play(options: Options) -> int:
    """Play the story and return the exit code: 0 when every check passed."""
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    programs = Programs(folder=options.folder, ports=Ports.pick())
    with StoryPrinter() as printer:
        try:
            return asyncio.run(_Story(options, programs, printer).run())
        except (KeyboardInterrupt, asyncio.CancelledError):
            printer.plain("Interrupted; stopping all programs.")
            return 130
        except (ProcessError, Unreachable, TimeoutError, ExceptionGroup) as error:
            cause = _first_cause(error)
            if not isinstance(cause, ProcessError | Unreachable | TimeoutError):
                raise
            printer.failed(str(cause) or "timed out")
            printer.plain(f"Logs: {options.folder}")
            return 1
        finally:
            programs.stop()


class _Story:
    def __init__(self, options: Options, programs: Programs, printer: StoryPrinter) -> None:
        self._options = options
        self._programs = programs
        self._printer = printer
        self._api = Api(programs.api)
        self._result = _Result()
        self._started = time.monotonic()
        slow = options.vllm is not None
        self._traffic = [
            Traffic(
                TrafficConfig(
                    url=entry,
                    users=_USERS,
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
            for number, entry in enumerate(programs.entries, 1)
        ]

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        await self._start_programs()
        await self._apply_shadow()
        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(traffic.run()) for traffic in self._traffic]
            watcher = tasks.create_task(self._update_live_panel())
            try:
                await self._shadow()
                await self._canary()
                if self._options.vllm is None:
                    await self._rollback()
                if self._options.keep:
                    code = self._print_summary()
                    await self._keep_running()
                    return code
            finally:
                for traffic in self._traffic:
                    traffic.stop()
                watcher.cancel()
            await asyncio.gather(*users)
        return self._print_summary()

    # The parts of the story

    async def _start_programs(self) -> None:
        programs, printer = self._programs, self._printer
        printer.heading("Starting two model servers, the collector, the control plane and two Envoys")
        self._old, self._new = await asyncio.to_thread(self._start_backends)
        for backend in (self._old, self._new):
            printer.line(f"Model server {backend.label} started on {backend.url}")
        await asyncio.to_thread(programs.start_collector)
        printer.line(f"Collector started on {programs.collector}")
        await asyncio.to_thread(programs.start_control_plane)
        printer.line(f"Control plane started on {programs.api}")
        await asyncio.to_thread(programs.start_envoys)
        for number, (entry, admin) in enumerate(zip(programs.entries, programs.ports.admins, strict=True), 1):
            printer.line(f"Envoy {number} started on {entry}, admin interface on http://127.0.0.1:{admin}")
        printer.plain()
        printer.plain(f"Web UI:         {programs.api}/routes/{_ROUTE} (no login needed on loopback)")
        printer.plain(f"Other terminal: .venv/bin/shiftplane watch {_ROUTE} --server {programs.api}")
        printer.plain(f"Files:          {programs.folder} (specs, logs, databases)")

    def _start_backends(self) -> tuple[Backend, Backend]:
        if self._options.vllm is not None:
            from demo.story.vllm import start_both

            return start_both(self._programs, self._options.vllm, self._printer.line)
        return (
            start_simulated(self._programs, "v1", flavour="a", model="chat-large-v1"),
            start_simulated(self._programs, "v2", flavour="b", model="chat-large-v2"),
        )

    async def _apply_shadow(self) -> None:
        # Real models on a CPU are too slow to answer each copied request a third time.
        noise = 50 if self._options.vllm is None else 0
        path = specs.shadow(self._programs.folder, 1, _MODEL, self._old, self._new, percent=20, noise=noise)
        self._printer.heading(
            f"Part 1 of {self._parts}: Shadow. v1 serves all users; 20 % of their requests are copied to v2"
        )
        await self._command("apply", str(path))
        await self._until(lambda view: view["phase"] == "Shadowing", 30, "phase Shadowing")

    async def _shadow(self) -> None:
        simulated = self._options.vllm is None
        rate = sum(traffic.config.rate for traffic in self._traffic)
        wanted = 60 if simulated else 6
        self._printer.line(
            f"Traffic started: {len(self._traffic) * _USERS} users send {rate:g} requests per second "
            "through both Envoys"
        )
        self._printer.line(f"Waiting for {wanted} requests that both v1 and v2 have answered")
        view = await self._until(
            lambda view: bool(view["pairs"]) and view["pairs"]["pairs"] >= wanted,
            60 if simulated else 900,
            f"{wanted} pairs of answers",
        )
        self._check(view["weights"]["v2"] == 0, "v2 served no user")
        self._printer.line(f"{view['pairs']['pairs']} pairs of answers collected; the newest:")
        await asyncio.to_thread(self._print_newest_pair)
        if simulated:
            view = await self._until(
                lambda view: view["equivalence"] is not None, 30, "a first comparison of the answers"
            )
            result = view["equivalence"]
            self._printer.line(
                f"Comparison of v2's answers with v1's: {result['verdict']} so far "
                f"({result['trios']} pairs for which v1 answered twice, to measure its own variation)"
            )
        self._printer.panel(view)

    async def _canary(self) -> None:
        weights = ", ".join(f"{weight} %" for weight in _CANARY_WEIGHTS)
        self._printer.heading(f"Part 2 of {self._parts}: Canary. Users move to v2 in steps: {weights}")
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
        path = specs.canary(self._programs.folder, 2, _MODEL, self._old, self._new, steps=steps, bake=pause)
        await self._command("apply", str(path))
        samples = []
        for number, weight in enumerate((5, 25)):
            view = await self._until(_waiting_at("v2", weight), 30, f"{weight} % of users on v2")
            self._print_step(view, "v2", weight, _CANARY_WEIGHTS)
            entry = self._programs.entries[number % len(self._programs.entries)]
            samples.append(await self._sample(weight, entry))
            if number == 1:
                self._check_moved_back(*samples)
            await self._command("promote", _ROUTE, "-m", f"split at {weight} % checked")
        for weight in (50, 100):
            view = await self._until(
                _synced_at("v2", weight),
                60 if self._options.vllm is None else 600,
                f"{weight} % of users on v2",
            )
            self._print_step(view, "v2", weight, _CANARY_WEIGHTS)
        view = await self._until(
            lambda view: view["phase"] == "Healthy",
            60 if self._options.vllm is None else 600,
            "phase Healthy",
        )
        self._printer.panel(view)
        self._check(view["weights"]["v2"] == 100, "v2 serves all users")

    async def _rollback(self) -> None:
        self._printer.heading(
            f"Part 3 of {self._parts}: Automatic rollback. The next version, v3, becomes slow"
        )
        bad = await asyncio.to_thread(
            start_simulated, self._programs, "v3", flavour="a", model="chat-large-v3"
        )
        self._printer.line(f"Model server {bad.label} started on {bad.url}")
        steps = ["setWeight: 20", "pause: {}", "setWeight: 100"]
        path = specs.canary(
            self._programs.folder, 3, _MODEL, self._new, bad, steps=steps, bake="10s", analyzed=True
        )
        await self._command("apply", str(path))
        view = await self._until(_waiting_at("v3", 20), 30, "20 % of users on v3")
        self._print_step(view, "v3", 20, (20, 100))
        await asyncio.to_thread(_inject_fault, bad, "slow")
        self._printer.line("Fault injected: v3 is ten times slower from now on; no operator reacts")
        before = time.time()
        view = await self._until(lambda view: view["phase"] == "RolledBack", 120, "phase RolledBack")
        after = time.time()
        self._check(
            view["outcome"] == "RolledBack",
            f"the control plane rolled back to v2 by itself, {after - before:.0f} s after the fault",
        )
        self._printer.line(f"Its reason: {view['message']}")
        for name in ("v2", "v3"):
            self._printer.line(f"Median response time of {name} for its users: {self._median(name):.0f} ms")
        await asyncio.sleep(2)
        late = [
            record
            for traffic in self._traffic
            for record in traffic.records
            if record.began_at > after and record.variant == "v3"
        ]
        self._check(not late, "no request reached v3 after the rollback")
        self._printer.panel(view)

    async def _keep_running(self) -> None:
        old, new = self._old.url.partition("//")[2], self._new.url.partition("//")[2]
        self._printer.plain()
        self._printer.plain("All programs keep running; Ctrl-C stops them.")
        self._printer.plain("To replace the route by one of your own, type in another terminal:")
        self._printer.plain(f"    . .venv/bin/activate && export SHIFTPLANE_SERVER={self._programs.api}")
        self._printer.plain(f"    shiftplane delete {_ROUTE}")
        self._printer.plain(f"    shiftplane init mine --group demo --stable {old} --candidate {new}")
        self._printer.plain("    shiftplane apply mine.yaml && shiftplane watch mine")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    def _print_summary(self) -> int:
        result = self._result
        users = [traffic.snapshot() for traffic in self._traffic]
        sent = sum(snapshot.ok + snapshot.failed for snapshot in users) + result.sampled
        failed = sum(snapshot.failed for snapshot in users) + result.sample_failed
        self._printer.heading("Result")
        self._check(failed == 0, f"{sent:,} user requests, {failed} failed")
        if ended := self._programs.ended():
            names = ", ".join(process.name for process in ended)
            self._check(False, f"all programs are still running; ended: {names}")
        result.pairs = self._pairs()
        self._printer.plain()
        summary: dict[str, Any] = {
            "demo": "fail" if result.broken else "pass",
            "requests": sent,
            "failed": failed,
            "moved_back": result.moved_back,
            "pairs": result.pairs,
            "split": result.split,
            "seconds": round(time.monotonic() - self._started, 1),
        }
        if result.broken:
            summary["broken"] = result.broken
            self._printer.plain(f"Logs: {self._programs.folder}")
        sys.stdout.flush()
        self._printer.plain(json.dumps(summary))
        return 1 if result.broken else 0

    # Building blocks

    @property
    def _parts(self) -> int:
        return 3 if self._options.vllm is None else 2

    async def _command(self, *arguments: str) -> None:
        self._printer.command(shlex.join(["shiftplane", *arguments]))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "xds_server.cli",
            *arguments,
            f"--server={self._programs.api}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        if process.returncode != 0:
            raise ProcessError(f"shiftplane {arguments[0]} failed:\n{output.decode()}")

    async def _until(
        self, holds: Callable[[dict[str, Any]], bool], seconds: float, goal: str
    ) -> dict[str, Any]:
        """Poll the route until the condition holds, and return the route; `goal` describes the condition.

        Raises:
            TimeoutError: The condition did not hold within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    view = await asyncio.to_thread(self._api.get, f"/v1/routes/{_ROUTE}")
                    if holds(view):
                        return dict(view)
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise TimeoutError(f"not reached within {seconds:g} s: {goal}") from error

    async def _update_live_panel(self) -> None:
        while True:
            # With --keep, the user may delete the route.
            with contextlib.suppress(Unreachable, ApiError):
                view = await asyncio.to_thread(self._api.get, f"/v1/routes/{_ROUTE}")
                self._printer.update_live(view, _merged(self._traffic))
            await asyncio.sleep(0.5)

    def _print_step(
        self,
        view: dict[str, Any],
        variant: str,
        weight: int,
        weights: Sequence[int],
    ) -> None:
        number = weights.index(weight) + 1
        proxies = view["convergence"]
        self._printer.line(
            f"Step {number} of {len(weights)}: {weight} % of users on {variant} "
            f"({proxies['acked']} of {proxies['connected']} proxies synced)"
        )

    async def _sample(self, weight: int, entry: str) -> SplitSample:
        users = self._options.users
        if self._options.vllm is not None:
            # Two real servers on two cores generate a few words per second: too slow for a large sample.
            self._printer.line("Users send requests for 30 s")
            await asyncio.sleep(30)
            return SplitSample(total=0, failed=0, seconds=0, by_variant={}, by_failure={}, by_user={})
        self._printer.line(
            f"Measuring the split: {users:,} other users send one request each through {entry}"
        )
        sample = await split_sample(entry, users, _SAMPLE_CONNECTIONS, model=_MODEL, seconds=300)
        share, expected = sample.share("v2"), weight / 100
        band = _Z_999 * math.sqrt(expected * (1 - expected) / users)
        self._result.sampled += sample.total
        self._result.sample_failed += sample.failed
        self._result.split[str(weight)] = round(100 * share, 3)
        self._check(
            abs(share - expected) <= band,
            f"{100 * share:.2f} % of them were served by v2 "
            f"(expected {weight} % ± {100 * band:.2f}, the 99.9 % range of a random split)",
        )
        return sample

    def _check_moved_back(self, before: SplitSample, after: SplitSample) -> None:
        on_v2 = {user for user, variant in before.by_user.items() if variant == "v2"}
        moved_back = sum(after.by_user.get(user) != "v2" for user in on_v2)
        self._result.moved_back = moved_back
        if before.total:
            self._check(
                moved_back == 0,
                f"of the {len(on_v2):,} users on v2 at 5 %, {moved_back} moved back to v1 at 25 %",
            )

    def _median(self, variant: str) -> float:
        """Return the median duration of the last good requests that a variant served, in milliseconds."""
        times = [
            record.total_ms
            for traffic in self._traffic
            for record in list(traffic.records)[-400:]
            if record.variant == variant and record.failure is None
        ]
        return statistics.median(times[-50:]) if times else math.nan

    def _pairs(self) -> int:
        routes = Api(self._programs.collector).get("/v1/summary")["routes"]
        return sum(int(route["pairs"]) for route in routes)

    def _print_newest_pair(self) -> None:
        collector = Api(self._programs.collector)
        newest = collector.get(f"/v1/pairs?route={_ROUTE}&limit=1")["pairs"][0]
        pair = collector.get(f"/v1/pairs/{newest['id']}")
        prompt = json.loads(pair["primary"]["request"]["text"])["messages"][-1]["content"]
        self._printer.quote("prompt", prompt)
        for role, backend in (("primary", self._old), ("shadow", self._new)):
            self._printer.quote(f"answer of {backend.name}", pair[role]["reply"]["text"] or "(empty)")

    def _check(self, passed: bool, text: str) -> None:  # noqa: FBT001 - a check and its text
        if passed:
            self._printer.passed(text)
        else:
            self._result.broken.append(text)
            self._printer.failed(f"check failed: {text}")


def _first_cause(error: Exception) -> Exception:
    """Return the first error inside the groups that a task group raises."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _merged(traffic: list[Traffic]) -> Any:
    """Return one snapshot of several traffic generators: summed counts, the percentiles of the first."""
    snapshots = [one.snapshot() for one in traffic]
    return replace(snapshots[0], ok=sum(s.ok for s in snapshots), failed=sum(s.failed for s in snapshots))


def _waiting_at(variant: str, weight: int) -> Callable[[dict[str, Any]], bool]:
    def holds(view: dict[str, Any]) -> bool:
        step = view["step"]
        return view["weights"].get(variant) == weight and bool(step) and step["waiting_for"] == "operator"

    return holds


def _synced_at(variant: str, weight: int) -> Callable[[dict[str, Any]], bool]:
    def holds(view: dict[str, Any]) -> bool:
        proxies = view["convergence"]
        return bool(view["weights"].get(variant) == weight and proxies["acked"] == proxies["connected"])

    return holds


def _inject_fault(backend: Backend, mode: str) -> None:
    body = json.dumps({"mode": mode, "rate": 1.0}).encode()
    request = urllib.request.Request(  # noqa: S310 - a loopback URL built above
        f"{backend.url}/_sim/faults", data=body, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
