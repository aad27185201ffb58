"""Real vLLM on the CPU as a program: ``python -m demo.real_vllm prepare``, then ``serve``.

``prepare`` takes about 5 GB and some minutes once; repeated, it does only what is left. ``serve`` prints one
line when the server answers (``real vLLM ready name=... url=...``) and ends it on SIGTERM or SIGINT; a second
signal ends it at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.processes import ProcessError
from demo.real import (
    Dtype,
    Preparation,
    PrepareError,
    RealVllm,
    ServerConfig,
    launch,
    server_command,
    wait_ready,
)
from demo.real.server import STARTING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["generation", "main"]

_POLL: Final = 0.2
_SAME_WISH: Final = 1.0
_ROOT: Final = Path(".vllm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it did its work, 1 when it could not, 130 when interrupted."""
    asked = _parser().parse_args(arguments)
    try:
        return _prepare(asked) if asked.verb == "prepare" else _serve(asked)
    except (PrepareError, ProcessError) as error:
        print(f"{asked.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{asked.verb}: interrupted", file=sys.stderr)
        return 130


def generation(text: str) -> dict[str, float]:
    """Sampling parameters from a JSON object of numbers.

    Raises:
        ValueError: It is something else.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in document.values()
    ):
        raise ValueError('a JSON object of numbers is wanted, as {"temperature": 0}')
    return document


def _prepare(asked: argparse.Namespace) -> int:
    # A pipe or a file shows progress as it comes; ended from outside, the running stage is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Preparation(asked.dir, say=_say if not sys.stdout.isatty() else print).run()
    return 0


def _serve(asked: argparse.Namespace) -> int:
    config = _config(asked)
    if asked.print_command:
        _say(shlex.join(server_command(config)))
        return 0
    signals = _Signals()
    server = launch(config, asked.log_dir or config.root / "logs")
    signals.server = server
    _say(f"vLLM {config.name} is starting as process {server.process.pid}; its log is {server.process.log}")
    try:
        if wait_ready([server], timeout=asked.start_timeout, say=_say, give_up=lambda: signals.received):
            _say(f"real vLLM ready name={config.name} url={config.base_url} pid={server.process.pid}")
        while server.process.running and not signals.received:
            time.sleep(_POLL)
        if not signals.received:
            server.ready()  # raises, and says how it ended
    finally:
        _end(server)
    return 0


def _end(server: RealVllm) -> None:
    began = time.monotonic()
    server.stop()
    how = "by itself" if server.process.popen.returncode == 0 else f"with {server.process.popen.returncode}"
    _say(f"vLLM {server.config.name} ended {how} after {time.monotonic() - began:.1f} s")


class _Signals:
    """SIGTERM and SIGINT end the server; a later one ends it at once.

    One that follows within a second is the same wish: `timeout` and terminals signal a process and its group.
    """

    def __init__(self) -> None:
        self.received = False
        self._first = 0.0
        self.server: RealVllm | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        now = time.monotonic()
        if not self.received:
            self.received, self._first = True, now
        elif now - self._first > _SAME_WISH and self.server is not None:
            self.server.process.signal(signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.real_vllm", description="Real vLLM on the CPU, with a small real model."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepare = verbs.add_parser("prepare", help="install vLLM and convert the model, once")
    serve = verbs.add_parser("serve", help="run one server until SIGTERM or SIGINT")
    for verb in (prepare, serve):
        verb.add_argument("--dir", type=Path, default=_ROOT, help="the prepared folder (default %(default)s)")
    add = serve.add_argument
    add("--port", type=int, required=True)
    add("--host", default="127.0.0.1")
    add("--core", type=int, required=True, help="the CPU core it computes on")
    add("--served-model-name", default="smol-a", metavar="NAME", help="default %(default)s")
    add("--max-model-len", type=int, default=1024, metavar="TOKENS", help="default %(default)s")
    add("--dtype", type=Dtype, choices=list(Dtype), default=Dtype.FLOAT32, help="default %(default)s")
    add("--seed", type=int, default=0)
    add(
        "--generation",
        type=generation,
        default={},
        metavar="JSON",
        help='sampling of requests that name none, as {"temperature": 0}',
    )
    add(
        "--shutdown-timeout",
        type=int,
        default=20,
        metavar="SECONDS",
        help="for running answers (%(default)s)",
    )
    add(
        "--start-timeout", type=float, default=STARTING_SECONDS, metavar="SECONDS", help="default %(default)s"
    )
    add("--log-dir", type=Path, help="where its log goes (default: logs/ in the prepared folder)")
    add("--print-command", action="store_true", help="print the command instead of running it")
    return parser


def _config(asked: argparse.Namespace) -> ServerConfig:
    return ServerConfig(
        root=asked.dir.resolve(),
        name=asked.served_model_name,
        port=asked.port,
        core=asked.core,
        host=asked.host,
        max_model_len=asked.max_model_len,
        dtype=asked.dtype,
        seed=asked.seed,
        generation=asked.generation,
        shutdown_timeout=asked.shutdown_timeout,
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
