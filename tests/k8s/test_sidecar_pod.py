"""A pod of the sidecar component on loopback: its commands and scripts, a real Envoy, no vLLM."""

from __future__ import annotations

import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from demo.processes import ReadyCheck, envoy_binary, free_port, http_ready, start
from tests.k8s.manifests import EXAMPLE, manifests
from tests.support.plane import Plane, eventually, route
from xds_server.cli import main as shiftplane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from demo.processes import Process

pytestmark = pytest.mark.e2e

LIMIT_SECONDS = 20


class _Server(ThreadingHTTPServer):
    """Answers /health at once, and other requests in two halves, the second once `go_on` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.half = threading.Event()
        self.go_on = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        self.send_response(200)
        if self.path == "/health":
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_header("content-length", "10")
        self.end_headers()
        self.wfile.write(b"first")
        self.wfile.flush()
        server.half.set()
        server.go_on.wait(LIMIT_SECONDS)
        self.wfile.write(b"-half")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@dataclass(slots=True)
class Pod:
    """The programs of one pod, with free ports instead of the pod's own."""

    folder: Path
    server: _Server
    ports: dict[str, int]
    processes: list[Process] = field(default_factory=list)

    def script(self, name: str, **settings: str) -> list[str]:
        """Return a command that runs a script as the kubelet does, with a trace on stderr."""
        proxy = manifests(EXAMPLE).container("vllm-v1", "proxy")
        (volume,) = (one for one in proxy.pod["volumes"] if one["name"] == "proxy-scripts")
        text = manifests(EXAMPLE).one("ConfigMap", volume["configMap"]["name"])["data"][name]
        file = self.folder / name
        file.write_text(text, encoding="utf-8")
        environment = {item["name"]: item["value"] for item in proxy.value["env"]}
        environment |= {f"{port.upper()}_PORT": str(number) for port, number in self.ports.items()}
        environment |= {"DRAIN_SETTLE_SECONDS": "0"} | settings
        variables = [f"{key}={value}" for key, value in environment.items()]
        return ["env", "-i", "PATH=/usr/bin:/bin", *variables, "bash", "-x", str(file)]

    def ready(self, **settings: str) -> bool:
        """Return whether the readiness probe succeeds."""
        command = self.script("ready.sh", **settings)
        return (
            subprocess.run(command, capture_output=True, timeout=LIMIT_SECONDS, check=False).returncode == 0
        )

    def drain(self, **settings: str) -> Process:
        """Run the preStop hook."""
        process = start("drain", self.script("drain.sh", **settings), folder=self.folder)
        self.processes.append(process)
        return process

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    plane = Plane(tmp_path)
    with _serving() as server:
        running = Pod(tmp_path, server, {name: free_port() for name in ("entry", "serve", "admin", "ready")})
        try:
            plane.start_control_plane(collector=False)
            plane.apply(route(("v1", f"127.0.0.1:{running.ports['serve']}")))
            running.processes.append(_start_proxy(running, plane.xds))
            yield running
        finally:
            server.go_on.set()
            for process in reversed(running.processes):
                process.stop()
            plane.close()


@contextmanager
def _serving() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(LIMIT_SECONDS)
        server.server_close()


def _start_proxy(pod: Pod, xds: int) -> Process:
    """Write the bootstrap as the init containers do, then start the proxy."""
    bootstrap, proxy = (
        manifests(EXAMPLE).container("vllm-v1", name) for name in ("proxy-bootstrap", "proxy")
    )
    file = pod.folder / "envoy.yaml"
    ours = {
        "--group": "chat",
        "--node-id": "vllm-v1-0",
        "--xds": f"127.0.0.1:{xds}",
        "--app": f"127.0.0.1:{pod.server.server_address[1]}",
        "--out": str(file),
        "--config-path": str(file),
        "--concurrency": "1",
    } | {f"--{name}": f"127.0.0.1:{port}" for name, port in pod.ports.items()}

    def here(words: list[str]) -> list[str]:
        """Replace the values of options, in the form `--flag=value` or `--flag value`."""
        keys = [word.partition("=")[0] for word in words]
        replaced = [
            f"{key}={ours[key]}" if key in ours and key != word else word
            for key, word in zip(keys, words, strict=True)
        ]
        return [ours.get(before, word) for before, word in zip(["", *replaced], replaced, strict=False)]

    done = CliRunner().invoke(shiftplane, here(bootstrap.value["command"][1:]))
    assert done.exit_code == 0, done.output
    return start(
        "proxy",
        [envoy_binary(), *here(proxy.value["command"][1:])],
        folder=pod.folder,
        ready=ReadyCheck(url=pod.url("ready", "/ready"), timeout=LIMIT_SECONDS),
    )


def test_clients_are_sent_only_to_a_proxy_with_an_open_entry(pod: Pod) -> None:
    assert eventually(pod.ready, bool, within=LIMIT_SECONDS)
    assert not pod.ready(ENTRY_PORT=str(free_port())), "as before the first snapshot"
    assert not pod.ready(READY_PORT=str(free_port()))
    assert http_ready(pod.url("serve", "/health")), "the probes of vLLM use it"
    assert not http_ready(pod.url("ready", "/stats")), "the readiness listener opens no other page"


def test_a_pod_waits_for_the_last_answer(pod: Pod) -> None:
    assert eventually(pod.ready, bool, within=LIMIT_SECONDS)
    with urllib.request.urlopen(pod.url("entry", "/v1/models"), timeout=LIMIT_SECONDS) as answer:
        assert pod.server.half.wait(LIMIT_SECONDS)
        draining = pod.drain(DRAIN_LIMIT_SECONDS="60")
        # The trace shows two checks that both found an active connection.
        eventually(
            lambda: draining.tail(10_000).count("+ sleep 1"), lambda count: count >= 2, within=LIMIT_SECONDS
        )
        assert draining.running
        assert not pod.ready(), "no new client is sent here"
        assert http_ready(pod.url("serve", "/health")), "clients that do not know yet are still served"
        pod.server.go_on.set()
        assert answer.read() == b"first-half"
    assert draining.popen.wait(LIMIT_SECONDS) == 0, draining.tail()


def test_a_pod_does_not_wait_for_ever(pod: Pod) -> None:
    assert eventually(pod.ready, bool, within=LIMIT_SECONDS)
    with urllib.request.urlopen(pod.url("entry", "/v1/models"), timeout=LIMIT_SECONDS) as answer:
        assert pod.server.half.wait(LIMIT_SECONDS)
        draining = pod.drain(DRAIN_LIMIT_SECONDS="1")
        assert draining.popen.wait(LIMIT_SECONDS) == 0, draining.tail()
        assert not pod.server.go_on.is_set()
        pod.server.go_on.set()
        answer.read()
