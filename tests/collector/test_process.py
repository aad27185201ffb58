"""The process: start, shutdown, crash and invalid options."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mirror_collector.cli import main
from mirror_collector.units import Address, parse_address, parse_duration, parse_size
from tests.collector.builders import document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 20.0


class Program:
    """A `mirror-collector serve` process and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        self.events: IO[str] = process.stderr
        listening = json.loads(self.events.readline())
        assert listening["event"] == "listening", listening
        self.http = f"http://{listening['http']}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.http}{path}", timeout=LIMIT) as answer:
            return json.load(answer)

    def post(self, legs: list[Any]) -> Any:
        request = urllib.request.Request(
            f"{self.http}/v1/exchanges",
            data=json.dumps(legs).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return json.load(answer)

    def chat_when(self, key: str, value: Any) -> dict[str, Any]:
        """Poll the summary until the first route has this value."""
        end = time.monotonic() + LIMIT
        while True:
            routes = self.get("/v1/summary")["routes"]
            if routes and routes[0][key] == value:
                route: dict[str, Any] = routes[0]
                return route
            assert time.monotonic() < end, routes

    def send_signal(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


@contextmanager
def run_program(store: Path) -> Iterator[Program]:
    args = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", str(store)]
    with subprocess.Popen(
        [sys.executable, "-m", "mirror_collector.cli", "serve", *args], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Program(process)
        finally:
            if process.poll() is None:
                process.kill()


def make_legs(*names: str) -> list[Any]:
    return [document(role, name) for name in names for role in ("primary", "shadow")]


def test_a_killed_process_neither_loses_nor_repeats_a_counted_pair(tmp_path: Path) -> None:
    store = tmp_path / "pairs.sqlite"
    with run_program(store) as first:
        first.post([*make_legs("a", "b", "c"), document("primary", "alone")])
        before = first.chat_when("waiting", 1)
        assert before["pairs"] == 3
        assert first.send_signal(signal.SIGKILL) == -signal.SIGKILL
    with run_program(store) as second:
        assert second.chat_when("pairs", 3)["unpaired"] == {"restart": 1}
        second.post(make_legs("a", "b", "c", "d"))
        after = second.chat_when("pairs", 4)
        assert after["unpaired"] == {"restart": 1, "stored_before": 6}
        assert after["agreement"]["exact"] == {"same": 4, "of": 4}
        assert len(second.get("/v1/pairs")["pairs"]) == 4
        assert second.send_signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_and_is_logged(tmp_path: Path, number: int) -> None:
    with run_program(tmp_path / "pairs.sqlite") as running:
        assert running.get("/readyz") == {"status": "ready"}
        assert running.send_signal(number) == 0
        assert [json.loads(line)["event"] for line in running.events] == ["stopping", "stopped"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--store", "x", "--pair-window", "2"], "'2' is not a duration"),
        (["--store", "x", "--pair-window", "0s"], "must be greater than zero"),
        (["--store", "x", "--max-store-size", "2G"], "'2G' is not a size"),
        (["--store", "x", "--grpc", "18002"], "'18002' is not an address"),
    ],
)
def test_invalid_options_are_rejected(args: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *args])
    assert result.exit_code == 2
    assert message in result.output


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert result.exit_code == 0
    assert "mirror-collector serve --store" in result.output


@pytest.mark.parametrize("broken", ["grpc", "http", "store"])
def test_startup_errors_are_reported_in_one_line(tmp_path: Path, broken: str) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "store": str(tmp_path / "pairs.sqlite")}
        options[broken] = str(tmp_path / "file" / "pairs.sqlite") if broken == "store" else address
        args = [part for name, value in options.items() for part in (f"--{name}", value)]
        done = subprocess.run(
            [sys.executable, "-m", "mirror_collector", "serve", *args],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert options[broken] in last or broken == "http"
    assert "Traceback" not in done.stderr


def test_durations() -> None:
    values = ("250ms", "90s", "1h30m", "7d", "1.5s")
    assert [parse_duration(text) for text in values] == [0.25, 90, 5400, 604_800, 1.5]
    for text in ("", "5", "s", "-1s", "1s x", "1 s", "٣s", "1e5s"):
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)


def test_sizes() -> None:
    values = ("512KiB", "2GiB", "10MB", "1.5 kB", "7B")
    assert [parse_size(text) for text in values] == [1 << 19, 2 << 30, 10_000_000, 1500, 7]
    for text in ("", "5", "KiB", "-1B", "5 XB", "1B2B"):
        with pytest.raises(ValueError, match="size"):
            parse_size(text)


def test_addresses() -> None:
    assert parse_address("127.0.0.1:0") == Address(host="127.0.0.1", port=0)
    assert str(parse_address("[::1]:80")) == "[::1]:80"
    for text in ("", ":80", "host", "host:", "host:x", "host:65536", "::1:80"):
        with pytest.raises(ValueError, match="address"):
            parse_address(text)
