"""What becomes of a real vLLM candidate that breaks: a canary takes it back, a shadow reports it.

Two vLLM servers on the CPU serve users through a real Envoy, with the default settings of a route. In a
canary the candidate has 50 % of the users, in a shadow it receives copies of all requests. A case begins with
a sound candidate where the fault can begin later:

- `killed`: SIGKILL for the engine process of the candidate
- `hung`: SIGSTOP for the engine process; `/health` goes on to return 200, and clients leave after 15 s
- `context`: the candidate accepts 48 tokens, and all prompts are longer
- `adapter`: the candidate's model name is an adapter that it has not loaded
- `gibberish`: the candidate samples at temperature 5 (shadow only: every answer is a success). vLLM allows
  at most 2, so the weights of the last layer are divided by 2.5 as well
- `sound`: nothing breaks, which must have no consequence

Requires the output of ``python -m demo.real_vllm prepare``. A case takes at most 20 minutes, and all of them
about an hour on two cores.

    python bench/verdicts_vllm.py                     # all cases
    python bench/verdicts_vllm.py canary:hung shadow:gibberish
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.equivalence_vllm import changed_root
from demo.processes import free_port
from demo.prompts import load
from demo.real import RealVllm, ServerConfig, cores, launch, wait_ready
from tests.support.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME: Final = "chat"
_DIVIDE: Final = """
import sys
from safetensors.numpy import load_file, save_file
source, target, divisor = sys.argv[1], sys.argv[2], float(sys.argv[3])
tensors = load_file(source)
tensors["model.norm.weight"] = (tensors["model.norm.weight"] / divisor).astype("float32")
save_file(tensors, target, metadata={"format": "pt"})
"""
_LIMIT: Final = 1200.0
_SOUND_SECONDS: Final = 240.0
_CLIENT_TIMEOUT: Final = 15.0
_SHORT_CONTEXT: Final = 48
_POLL: Final = 1.0
_USERS: Final = 50
_SPEC: Final = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: chat}}
  match: {{path: {{prefix: /v1/}}}}
  model: {name}
  backends:
    - {{name: v1, endpoints: ["{stable}"]{stable_model}}}
    - {{name: v2, endpoints: ["{candidate}"]{candidate_model}}}
  stable: v1
  candidate: v2
  attributes: {{user.id: {{header: x-user-id}}}}
  strategy: {strategy}
"""
_CANARY: Final = "{canary: {stickiness: {attribute: user.id}, steps: [{setWeight: 50}, {pause: {}}]}}"
_SHADOW: Final = "{shadow: {percentage: 100, compare: {noiseBaseline: {percentage: 100}}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault under one strategy; `signal` is sent to the candidate's engine once it has served users."""

    strategy: str
    fault: str
    server: str = "normal"
    signal: signal.Signals | None = None
    adapter: str = ""

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"{self.strategy}:{self.fault}"

    @property
    def is_sound(self) -> bool:
        """Whether the case has no fault."""
        return self.fault == "sound"

    def spec(self, stable: str, candidate: str) -> str:
        """Return the YAML of the route."""
        names = {"stable_model": _NAME, "candidate_model": self.adapter} if self.adapter else {}
        return _SPEC.format(
            name=_NAME,
            stable=stable.removeprefix("http://"),
            candidate=candidate.removeprefix("http://"),
            **{
                key: f", modelNameOverride: {names[key]}" if key in names else ""
                for key in ("stable_model", "candidate_model")
            },
            strategy=_CANARY if self.strategy == "canary" else _SHADOW,
        )


def _cases() -> Iterator[Case]:
    # The servers are started in this order; a killed one is started anew by the next case.
    for strategy in ("canary", "shadow"):
        yield Case(strategy=strategy, fault="sound")
        yield Case(strategy=strategy, fault="adapter", adapter="finance-lora")
        yield Case(strategy=strategy, fault="hung", signal=signal.SIGSTOP)
        yield Case(strategy=strategy, fault="killed", signal=signal.SIGKILL)
    for strategy in ("canary", "shadow"):
        yield Case(strategy=strategy, fault="context", server="short")
    yield Case(strategy="shadow", fault="gibberish", server="hot")


CASES: Final = {case.name: case for case in _cases()}


class Candidates:
    """The stable server, and one candidate at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Start the stable server."""
        self._root, self._folder = root, folder
        self._cores = cores()
        self.stable = self._launch("stable", self._cores[0])
        self._kind = ""
        self._candidate: RealVllm | None = None

    def candidate(self, kind: str) -> RealVllm:
        """Return a running candidate of a kind; start it if the present one is another or has ended."""
        found = self._candidate
        if found is not None and (kind != self._kind or not _serves(found)):
            found.stop(grace=2.0)
            found = None
        if found is None:
            found = self._launch(kind, self._cores[-1])
            self._kind, self._candidate = kind, found
            wait_ready([self.stable, found])
        return found

    def stop(self) -> None:
        """End both servers."""
        for server in (self._candidate, self.stable):
            if server is not None:
                server.stop(grace=5.0)

    def _launch(self, kind: str, core: int) -> RealVllm:
        folder = self._folder / kind  # the servers have the same name, and so would their logs
        folder.mkdir(exist_ok=True)
        config = self._config(kind, core)
        if kind == "hot":
            config = replace(
                config, root=changed_root(self._root, folder, _DIVIDE, "2.5"), generation={"temperature": 2.0}
            )
        return launch(config, folder)

    def _config(self, kind: str, core: int) -> ServerConfig:
        return ServerConfig(
            root=self._root,
            name=_NAME,
            port=free_port(),
            core=core,
            max_model_len=_SHORT_CONTEXT if kind == "short" else 512,
            seed=1 if kind == "stable" else 2,
            shutdown_timeout=2,
        )


def _serves(server: RealVllm) -> bool:
    try:
        return server.ready() and bool(_engine(server.process.pid))
    except Exception:  # noqa: BLE001 a server that has ended raises the end of its log
        return False


def _engine(parent: int) -> list[int]:
    """Return the process ids of the engine, which is a child of the API server that runs no helper."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                status = (folder / "stat").read_text(encoding="utf-8")
                name, rest = status[status.index("(") + 1 : status.rindex(")")], status[status.rindex(")") :]
                if int(rest.split()[2]) == parent and name.startswith("VLLM::"):
                    found.append(int(folder.name))
    return found


@dataclass(slots=True)
class Users:
    """Users who send chat requests at a steady rate, half of them as streams; counts what they receive."""

    url: str
    rate: float
    received: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Send requests until it is canceled."""
        rng, texts = random.Random(7), [prompt.text for prompt in load()]
        timeout = aiohttp.ClientTimeout(total=_CLIENT_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for number in range(int(self.rate * _LIMIT)):
                user, text = f"u{rng.randrange(_USERS)}", texts[number % len(texts)]
                tasks.create_task(self._request(session, user, text, stream=number % 2 == 0))
                await asyncio.sleep(1 / self.rate)

    async def _request(self, session: aiohttp.ClientSession, user: str, text: str, *, stream: bool) -> None:
        # Prompts are longer than the short context: the chat template alone takes some 30 tokens.
        prompt = f"Please answer the following question in one short sentence, in English. {text[:200]}"
        document = {
            "model": _NAME,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 8,
            "stream": stream,
        }
        variant = "none"
        try:
            async with session.post(
                f"{self.url}/v1/chat/completions", json=document, headers={"x-user-id": user}
            ) as answer:
                variant = answer.headers.get("x-shiftplane-variant", "none")
                body = await answer.read()
                good = answer.status == 200 and (b"[DONE]" in body if stream else b'"choices"' in body)
                ended = "good" if good else f"status {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            ended = "left" if isinstance(error, TimeoutError) else "broken"
        self.received[f"{variant} {ended}"] += 1

    def good(self, variant: str) -> int:
        """Return how many good answers users received from a variant."""
        return self.received[f"{variant} good"]


def _taken_back(view: dict[str, Any]) -> bool:
    return view["phase"] in {"RollingBack", "RolledBack"}


def _flagged(view: dict[str, Any]) -> bool:
    found = view["equivalence"]
    return found is not None and found["verdict"] == "Different"


def _pairs(view: dict[str, Any]) -> int:
    return 0 if view["equivalence"] is None else int(view["equivalence"]["pairs"])


async def run_case(case: Case, candidates: Candidates, folder: Path, rate: float) -> dict[str, Any]:
    """Run one case; return what became of it, with times in seconds from the fault."""
    server = candidates.candidate(case.server)
    plane = Plane(folder)
    stopped: list[int] = []
    try:
        plane.start_collector()
        plane.start_control_plane()
        plane.apply(case.spec(candidates.stable.base_url, server.base_url))
        envoy = plane.start_envoy(stats_interval=1.0)
        users = Users(envoy.entry, rate)
        sending = asyncio.create_task(users.run())
        try:
            if case.signal is not None:
                await _until(plane, lambda view: users.good("v2") >= 20 or _pairs(view) >= 20, 300.0)
                for pid in (stopped := _engine(server.process.pid)):
                    os.kill(pid, case.signal)
            done = _taken_back if case.strategy == "canary" else _flagged
            before, began = Counter(users.received), time.monotonic()
            view = await _until(plane, done, _SOUND_SECONDS if case.is_sound else _LIMIT)
            seconds = time.monotonic() - began
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    finally:
        if case.signal is signal.SIGSTOP:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        plane.close()
    return {
        "case": case.name,
        "right": done(view) is not case.is_sound,
        "seconds": round(seconds, 1),
        "message": _message(case, view),
        "users": dict(sorted((users.received - before).items())),
    }


def _message(case: Case, view: dict[str, Any]) -> str:
    if case.strategy == "canary":
        return f"{view['phase']}: {view['message']}"
    found = view["equivalence"]
    return "no verdict" if found is None else f"{found['verdict']}: {found['words']}"


async def _until(plane: Plane, done: Callable[[dict[str, Any]], bool], within: float) -> dict[str, Any]:
    deadline = time.monotonic() + within
    while True:
        view = await asyncio.to_thread(plane.view)
        if done(view) or time.monotonic() > deadline:
            return view
        await asyncio.sleep(_POLL)


def main() -> int:
    """Run the cases; print a line for each and a JSON object in the last line; return 1 if one is wrong."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
        epilog="example: python bench/verdicts_vllm.py canary:hung shadow:gibberish",
    )
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"Cases to run (default: all): {', '.join(CASES)}."
    )
    parser.add_argument("--root", type=Path, default=Path(".vllm"), help="Prepared folder (%(default)s).")
    parser.add_argument("--rate", type=float, default=1.0, help="Requests per second (%(default)s).")
    args = parser.parse_args()
    if unknown := sorted(set(args.cases) - set(CASES)):
        parser.error(f"unknown case {unknown[0]!r}; cases are {', '.join(CASES)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="shiftplane-") as name:
        folder = Path(name)
        candidates = Candidates(args.root.resolve(), folder)
        try:
            for case in (CASES[name] for name in args.cases or CASES):
                (folder / case.name.replace(":", "-")).mkdir()
                found = asyncio.run(
                    run_case(case, candidates, folder / case.name.replace(":", "-"), args.rate)
                )
                results.append(found)
                print(
                    f"{'right' if found['right'] else 'WRONG'}  {case.name:<18} "
                    f"{found['seconds']:6.1f} s  {found['message']}\n{'':26}users: {found['users']}",
                    flush=True,
                )
        finally:
            candidates.stop()
    print(json.dumps(results))
    return 0 if all(found["right"] for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
