"""Real vLLM on the CPU as a program: ``python -m demo.real_vllm prepare``, then ``serve``.

``prepare`` needs about 5 GB of disk and some minutes, once; a later run does only the pending stages.
``serve`` prints one line when the server is ready (``real vLLM ready name=... url=...``). SIGTERM or SIGINT
ends the server gracefully; a second signal kills it.
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
_SAME_SIGNAL_SECONDS: Final = 1.0
_ROOT: Final = Path(".vllm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return 0 on success, 1 on an error, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return _prepare(arguments) if arguments.verb == "prepare" else _serve(arguments)
    except (PrepareError, ProcessError) as error:
        print(f"{arguments.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{arguments.verb}: interrupted", file=sys.stderr)
        return 130


def generation(text: str) -> dict[str, float]:
    """Return the sampling parameters of a JSON object of numbers.

    Raises:
        ValueError: The text is not a JSON object of numbers.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in document.values()
    ):
        raise ValueError('a JSON object of numbers is required, such as {"temperature": 0}')
    return document


def _prepare(arguments: argparse.Namespace) -> int:
    # SIGTERM raises KeyboardInterrupt, so that the running stage is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # `_print` flushes each line, so that a pipe or a file shows the progress at once.
    Preparation(arguments.dir, report=_print if not sys.stdout.isatty() else print).run()
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    if arguments.print_command:
        _print(shlex.join(server_command(config)))
        return 0
    signals = _Signals()
    server = launch(config, arguments.log_dir or config.root / "logs")
    signals.server = server
    _print(f"vLLM {config.name} is starting: pid {server.process.pid}, log {server.process.log}")
    try:
        if wait_ready(
            [server], timeout=arguments.start_timeout, report=_print, give_up=lambda: signals.received
        ):
            _print(f"real vLLM ready name={config.name} url={config.base_url} pid={server.process.pid}")
        while server.process.running and not signals.received:
            time.sleep(_POLL)
        if not signals.received:
            server.ready()  # raises an error with its exit code and the end of its log
    finally:
        _end(server)
    return 0


def _end(server: RealVllm) -> None:
    began = time.monotonic()
    server.stop()
    code = server.process.popen.returncode
    _print(f"vLLM {server.config.name} ended with exit code {code} after {time.monotonic() - began:.1f} s")


class _Signals:
    """Handles SIGTERM and SIGINT: the first ends the server gracefully, a later one kills it.

    A signal within a second of the first is ignored: `timeout` and terminals send the same signal to a
    process and to its group.
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
        elif now - self._first > _SAME_SIGNAL_SECONDS and self.server is not None:
            self.server.process.signal(signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo.real_vllm", description="Real vLLM on the CPU, with a small real model."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepare = verbs.add_parser("prepare", help="Install vLLM and convert the model, once.")
    serve = verbs.add_parser("serve", help="Run one server until SIGTERM or SIGINT.")
    for verb in (prepare, serve):
        verb.add_argument("--dir", type=Path, default=_ROOT, help="Prepared folder (default %(default)s).")
    add = serve.add_argument
    add("--port", type=int, required=True, help="Port to listen on.")
    add("--host", default="127.0.0.1", help="Address to listen on (default %(default)s).")
    add("--core", type=int, required=True, help="CPU core that the server computes on.")
    add("--served-model-name", default="smol-a", metavar="NAME", help="Model name (default %(default)s).")
    add(
        "--max-model-len",
        type=int,
        default=1024,
        metavar="TOKENS",
        help="Context length (default %(default)s).",
    )
    add(
        "--dtype",
        type=Dtype,
        choices=list(Dtype),
        default=Dtype.FLOAT32,
        help="Data type (default %(default)s).",
    )
    add("--seed", type=int, default=0, help="Seed of vLLM's sampling (default %(default)s).")
    add(
        "--generation",
        type=generation,
        default={},
        metavar="JSON",
        help='Default sampling parameters, such as {"temperature": 0}.',
    )
    add(
        "--shutdown-timeout",
        type=int,
        default=20,
        metavar="SECONDS",
        help="Time for answers in progress after SIGTERM (default %(default)s).",
    )
    add(
        "--start-timeout",
        type=float,
        default=STARTING_SECONDS,
        metavar="SECONDS",
        help="Limit for the start (default %(default)s).",
    )
    add("--log-dir", type=Path, help="Folder of the log (default: logs/ in the prepared folder).")
    add("--print-command", action="store_true", help="Print the command instead of running it.")
    return parser


def _config(arguments: argparse.Namespace) -> ServerConfig:
    return ServerConfig(
        root=arguments.dir.resolve(),
        name=arguments.served_model_name,
        port=arguments.port,
        core=arguments.core,
        host=arguments.host,
        max_model_len=arguments.max_model_len,
        dtype=arguments.dtype,
        seed=arguments.seed,
        generation=arguments.generation,
        shutdown_timeout=arguments.shutdown_timeout,
    )


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
