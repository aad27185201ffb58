"""The demo's three parts, while users send requests: shadow, canary to 100 %, automatic rollback."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import shutil
import signal
import statistics
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from demo.story import specs
from demo.story.pairs import count_pairs, print_newest_pair
from demo.story.printer import StoryPrinter
from demo.story.programs import Backend, Ports, Programs, inject_fault, start_simulated
from demo.story.result import Result
from demo.story.waiting import SceneError, explained, one_line, reached, until, waiting_at
from demo.traffic import SplitSample, Traffic, TrafficConfig, split_sample
from xds_server.cli.client import Api, ApiError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Options", "play"]

_MODEL: Final = "chat-large"
_ROUTE: Final = "chat"
_USERS: Final = 200  # per Envoy
# Enough for some 600 requests a second. A longer sample, or one with more connections, would keep the servers
# busy for so long that v3 would be compared with a v2 whose requests wait in a queue.
_SAMPLE_CONNECTIONS: Final = 100
_CANARY_WEIGHTS: Final = (5, 25, 50, 100)
# Seconds. Each wait takes a few seconds on an idle machine; a busy one may take ten times as long.
_LIMIT: Final = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of one demo.

    `folder` receives logs, databases and specs, and is emptied first. `users` is the size of the sample that
    measures the split. `keep` leaves all programs running at the end. `vllm` is the folder of a prepared real
    vLLM; None uses simulated servers. All time limits are multiplied by `limit_scale`.
    """

    folder: Path
    users: int = 5_000
    keep: bool = False
    vllm: Path | None = None
    limit_scale: float = 1.0


def play(options: Options) -> int:
    """Play the story; return the exit code: 0 if every check passed, 130 if interrupted, else 1.

    A part that cannot finish is reported in one line; all programs are stopped in any case.
    """
    with StoryPrinter() as printer:
        programs = None
        try:
            shutil.rmtree(options.folder, ignore_errors=True)
            options.folder.mkdir(parents=True)
            programs = Programs(folder=options.folder, ports=Ports.pick())
            return asyncio.run(_Story(options, programs, printer).run())
        except (KeyboardInterrupt, asyncio.CancelledError):
            printer.plain("Interrupted; stopping all programs.")
            return 130
        except Exception as error:  # noqa: BLE001 - the demo ends here, and prints one line for any cause
            printer.failed(explained(error, options.folder))
            return 1
        finally:
            if programs is not None:
                programs.stop()


class _Story:
    def __init__(self, options: Options, programs: Programs, printer: StoryPrinter) -> None:
        self._options = options
        self._programs = programs
        self._printer = printer
        self._api = Api(programs.api)
        self._result = Result(printer=printer)
        self._check = self._result.check
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
        await self._until(lambda view: view["phase"] == "Shadowing", _LIMIT, "phase Shadowing")

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
            _LIMIT if simulated else 900,
            f"{wanted} pairs of answers",
        )
        self._check(view["weights"]["v2"] == 0, "v2 served no user")
        self._printer.line(f"{view['pairs']['pairs']} pairs of answers collected; the newest:")
        await asyncio.to_thread(
            print_newest_pair, self._printer, self._programs.collector, _ROUTE, (self._old, self._new)
        )
        if simulated:
            view = await self._until(
                lambda view: view["equivalence"] is not None, _LIMIT, "a first comparison of the answers"
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
            view = await self._until(waiting_at("v2", weight), _LIMIT, f"{weight} % of users on v2")
            self._printer.step(view, "v2", weight, _CANARY_WEIGHTS)
            entry = self._programs.entries[number % len(self._programs.entries)]
            samples.append(await self._sample(weight, entry))
            if number == 1:
                self._result.check_moved_back(*samples)
            await self._command("promote", _ROUTE, "-m", f"split at {weight} % checked")
        for weight in (50, 100):
            view = await self._until(
                reached("v2", weight),
                _LIMIT if self._options.vllm is None else 600,
                f"{weight} % of users on v2",
            )
            self._printer.step(view, "v2", weight, _CANARY_WEIGHTS)
        view = await self._until(
            lambda view: view["phase"] == "Healthy",
            _LIMIT if self._options.vllm is None else 600,
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
        view = await self._until(waiting_at("v3", 20), _LIMIT, "20 % of users on v3")
        self._printer.step(view, "v3", 20, (20, 100))
        await asyncio.to_thread(inject_fault, bad, "slow")
        self._printer.line("Fault injected: v3 is ten times slower from now on; no operator reacts")
        before = time.time()
        view = await self._until(lambda view: view["phase"] == "RolledBack", _LIMIT, "phase RolledBack")
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
        return result.print_summary(
            sent=sent,
            failed=failed,
            pairs=count_pairs(self._programs.collector),
            seconds=time.monotonic() - self._started,
            folder=self._programs.folder,
        )

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
        limit = _LIMIT * self._options.limit_scale
        try:
            output, _ = await asyncio.wait_for(process.communicate(), limit)
        except TimeoutError as error:
            raise SceneError(f"shiftplane {arguments[0]} was not done after {limit:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise SceneError(f"shiftplane {arguments[0]} failed: {one_line(output.decode())}")

    async def _until(
        self, holds: Callable[[dict[str, Any]], bool], seconds: float, goal: str
    ) -> dict[str, Any]:
        """Poll the route until the condition holds, and return the route; `goal` describes the condition.

        Raises:
            SceneError: The condition did not hold within `seconds`, or a program ended.
        """
        return await until(
            lambda: dict(self._api.get(f"/v1/routes/{_ROUTE}")),
            holds,
            seconds=seconds * self._options.limit_scale,
            goal=goal,
            check=self._programs.check,
        )

    async def _update_live_panel(self) -> None:
        while True:
            # With --keep, the user may delete the route.
            with contextlib.suppress(Unreachable, ApiError):
                view = await asyncio.to_thread(self._api.get, f"/v1/routes/{_ROUTE}")
                self._printer.update_live(view, _merged(self._traffic))
            await asyncio.sleep(0.5)

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
        self._result.check_split(sample, weight)
        return sample

    def _median(self, variant: str) -> float:
        """Return the median duration of the last good requests that a variant served, in milliseconds."""
        times = [
            record.total_ms
            for traffic in self._traffic
            for record in list(traffic.records)[-400:]
            if record.variant == variant and record.failure is None
        ]
        return statistics.median(times[-50:]) if times else math.nan


def _merged(traffic: list[Traffic]) -> Any:
    """Return one snapshot of several traffic generators: summed counts, the percentiles of the first."""
    snapshots = [one.snapshot() for one in traffic]
    return replace(snapshots[0], ok=sum(s.ok for s in snapshots), failed=sum(s.failed for s in snapshots))
