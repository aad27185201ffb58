"""Run the commands of a documentation page in their order, and compare their output with the page.

The runner replaces what differs in a test: the default ports by free ones, the user of the commands, and the
addresses of the model servers in the samples.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import yaml

from demo.processes import ReadyCheck, envoy_binary, free_port, start
from tests.support.drawn import ROOT
from tests.support.pages.blocks import SHELL, blocks, commands, lines
from tests.support.plane import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.plane import Plane

__all__ = ["SKIPPED", "PageRunner"]

# Commands that are not run, by their prefix, with the reason.
SKIPPED: Final = {
    "git clone": "the repository address depends on the reader",
    "cd shiftplane": "the test runs in a folder with a copy of the samples",
    "make demo": "tests/e2e/test_story.py runs it",
    "make test": "it would run this test again",
    ". .venv/bin/activate": "the programs are already on the path",
    "shiftplane serve --xds 0.0.0.0": "the security tests of the xDS server start it with valid certificates",
    "shiftplane token revoke": "token ids are random; tests/web/test_access.py revokes tokens",
    "shiftplane audit verify --store": "a checkpoint belongs to one store; tests/cli/test_login.py has one",
    "sqlite3": "tests/docs/test_backup.py copies and restores stores",
    "docker": "Docker may be missing",
    "kubectl": "tests/k8s renders and checks the manifests; a cluster may be missing",
}
_PORTS: Final = re.compile(r"(?<=[:=\s])(8001|8002|9901|10000|1800[0-3])\b")
_PROGRAMS: Final = {
    "shiftplane": "xds_server.cli",
    "mirror-collector": "mirror_collector.cli",
}
# Seconds between an interrupt and the kill of a command that does not end.
_GRACE_SECONDS: Final = 10.0
_CHANGING: Final = frozenset(
    {"apply", "promote", "pause", "resume", "abort", "undo", "retry", "kill", "unkill"}
)
_ENDLESS: Final = re.compile(r"shiftplane watch (?!.*--(once|until-done))")
# Options that a test adds to a program, so that it does not use the default ports.
_EXTRA_OPTIONS: Final = {
    "shiftplane serve": "--xds 127.0.0.1:{18000} --http 127.0.0.1:{18001}",
    "mirror-collector serve": "--grpc 127.0.0.1:{18002} --http 127.0.0.1:{18003}",
    "shiftplane bootstrap": "--xds 127.0.0.1:{18000} --entry 127.0.0.1:{10000} --admin 127.0.0.1:{9901}",
}
_READY: Final = {
    "shiftplane serve": "http://127.0.0.1:{18001}/readyz",
    "mirror-collector serve": "http://127.0.0.1:{18003}/readyz",
    "envoy -c": "http://127.0.0.1:{9901}/server_info",
    "python -m demo.simulated_vllm --port 8001": "http://127.0.0.1:{8001}/health",
    "python -m demo.simulated_vllm --port 8002": "http://127.0.0.1:{8002}/health",
}


@dataclass(slots=True)
class PageRunner:
    """Runs pages in a folder of its own.

    `outputs` lists each command with its output. `inputs` returns the standard input of commands, by their
    prefix.
    """

    plane: Plane
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    inputs: dict[str, Callable[[], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the programs and copy the samples into the folder."""
        for name, module in _PROGRAMS.items():
            self._program(name, f'exec {sys.executable} -m {module} "$@"')
        self._program("python", f'exec {sys.executable} "$@"')
        self._program("envoy", f'exec {envoy_binary()} --use-dynamic-base-id --concurrency 1 "$@"')
        self.ports |= {
            "18000": self.plane.xds,
            "18001": self.plane.http,
            "18002": self.plane.collector_grpc,
            "18003": self.plane.collector_http,
            **{usual: free_port() for usual in ("8001", "8002", "9901", "10000")},
        }
        shutil.copytree(ROOT / "envoy" / "examples", self.folder / "envoy" / "examples")

    @property
    def folder(self) -> Path:
        """The folder in which the commands run."""
        return self.plane.folder

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the commands, with the server and the user."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHIFTPLANE_")}
        return inherited | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SHIFTPLANE_SERVER": f"http://127.0.0.1:{self.ports['18001']}",
            "SHIFTPLANE_ACTOR": "you@here",
            "SHIFTPLANE_CONFIG": str(self.folder / "contexts.yaml"),
            "NO_COLOR": "1",
        }

    def serve_models(self, names: dict[str, str]) -> None:
        """Start a model server for each backend, given its name and its model name."""
        for name, model in names.items():
            self.running[name] = self.plane.start_backend(name, model=model).address
        for path in (self.folder / "envoy" / "examples").glob("*.yaml"):
            path.write_text(_with_addresses(path.read_text(encoding="utf-8"), self.running), encoding="utf-8")

    def start_stack(self, samples: list[str], *, apply: bool = False) -> None:
        """Start the model servers of the samples, the collector, the control plane and one proxy."""
        self.serve_models(
            {name: model for sample in samples for name, model in _backends(self._sample(sample)).items()}
        )
        self.plane.start_collector()
        self.plane.start_control_plane()
        proxy = self.plane.start_envoy(wait=False)
        self.ports["10000"] = int(proxy.entry.rpartition(":")[2])
        eventually(self._proxies, lambda count: count == 1)
        if apply:
            self._execute(f"shiftplane apply envoy/examples/{samples[0]}", "setup")

    def run(self, page: str) -> None:
        """Run every command. A text block is the expected output of the command before it; `…` is a wildcard.

        Raises:
            AssertionError: A command failed or its output differs.
        """
        for block in blocks(page):
            if block.language in SHELL:
                for line in lines(block):
                    if not any(line.startswith(start) for start in SKIPPED):
                        self._execute(line, str(block))
            elif block.language == "text":
                command, printed = self.outputs[-1]
                missing = _missing(block.text, printed)
                assert missing is None, f"{block}: {command} did not print {missing!r} but\n{printed}"
            elif block.language == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block.text)):
                text = self._localized(_with_addresses(block.text, self.running))
                (self.folder / name[1]).write_text(text, encoding="utf-8")

    def _execute(self, line: str, location: str) -> None:
        if line.endswith("&"):
            self._start(line.removesuffix("&").strip())
            return
        text = self._localized(line)
        stdin = next((read() for prefix, read in self.inputs.items() if line.startswith(prefix)), "")
        seconds = 1.5 if _ENDLESS.match(line) else 60
        printed, code = self._shell(text, seconds=seconds, stdin=stdin)
        self.outputs.append((line, printed))
        assert code == 0, f"{location}: {line} exited with {code}:\n{printed}"
        for words in commands(line):
            if words[0] == "shiftplane" and words[1] in _CHANGING:
                self._await_convergence()

    def _shell(self, text: str, *, seconds: float, stdin: str = "") -> tuple[str, int]:
        """Run a line in a shell and return output and exit code; interrupt a command that does not end."""
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                printed, _ = process.communicate(timeout=_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                printed, _ = process.communicate()
        interrupted = process.returncode in {130, -signal.SIGINT} and seconds < 60
        return printed, 0 if interrupted else process.returncode

    def _start(self, line: str) -> None:
        """Start a program in the background."""
        text = self._localized(line)
        ready = next((url for program, url in _READY.items() if line.startswith(program)), None)
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        name = "-".join(re.findall(r"\w+", line)[:4])
        process = start(
            f"{name}-{len(self.plane.processes)}",
            ["env", *environment, "bash", "-c", f"cd {self.folder} && exec {text}"],
            folder=self.folder,
            ready=None if ready is None else ReadyCheck(url=self._with_ports(ready), timeout=60),
        )
        self.plane.processes.append(process)
        self.outputs.append((line, process.log.read_text(encoding="utf-8")))

    def _await_convergence(self) -> None:
        """Wait until all routes have converged, if a proxy is connected: a test is faster than a reader."""
        if not self._proxies():
            return
        names = {route["name"] for route in self.plane.api.get("/v1/routes")["routes"]}
        for name in names:
            eventually(partial(self.plane.view, name), _converged)

    def _proxies(self) -> int:
        return len(self.plane.api.get("/v1/proxies")["proxies"])

    def _localized(self, text: str) -> str:
        for program, options in _EXTRA_OPTIONS.items():
            text = re.sub(
                rf"{re.escape(program)}\b(?! --help)", f"{program} {self._with_ports(options)}", text
            )
        return _PORTS.sub(lambda found: str(self.ports.get(found[1], found[1])), text)

    def _with_ports(self, text: str) -> str:
        return re.sub(r"\{(\d+)\}", lambda found: str(self.ports[found[1]]), text)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def _sample(self, name: str) -> str:
        return (self.folder / "envoy" / "examples" / name).read_text(encoding="utf-8")


def _converged(view: dict[str, Any]) -> bool:
    convergence, step = view["convergence"], view["step"]
    waits = step is not None and step["waiting_for"] in {"convergence", "health"}
    moving = view["phase"] in {"Pending", "RollingBack"}
    return bool(convergence["acked"] == convergence["connected"] and not waits and not moving)


def _backends(text: str) -> dict[str, str]:
    documents = [document for document in yaml.safe_load_all(text) if document]
    return {
        backend["name"]: backend.get("modelNameOverride", "chat-large")
        for document in documents
        for backend in document["spec"].get("backends", ())
    }


def _with_addresses(text: str, running: dict[str, str]) -> str:
    """Return a sample with the addresses of the running backends."""
    for name, address in running.items():
        pattern = re.compile(rf"(\{{name: {re.escape(name)}, )(?:dns: \"[^\"]*\"|endpoints: \[[^]]*\])")
        text = pattern.sub(rf'\1endpoints: ["{address}"]', text)
    return text


def _missing(expected: str, printed: str) -> str | None:
    """Return the first expected piece that the output does not contain in order, or None."""
    output, position = _normalized(printed), 0
    for piece in (part for raw in expected.split("…") if (part := _normalized(raw))):
        found = output.find(piece, position)
        if found < 0:
            return piece
        position = found + len(piece)
    return None


def _normalized(text: str) -> str:
    """Remove frames and bars, and collapse white space."""
    return " ".join(re.sub(r"[╭╮╰╯─│━█░]", " ", text).split())
