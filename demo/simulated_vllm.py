"""The simulated vLLM server as a program: ``python -m demo.simulated_vllm --port 0 --name v2``.

Prints one line when it accepts connections (``simulated vLLM ready name=... url=... ...``). On SIGTERM or
SIGINT it finishes the answers in progress and exits.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.loops import loop_factory
from demo.simulated import Api, Fault, FaultError, FaultMode, Flavour, SimulatedConfig, SimulatedVllm
from demo.simulated.encodings import CODINGS
from demo.units import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal; return 0, or 1 if the address cannot be used."""
    parser = _parser()
    try:
        config = _config(parser.parse_args(arguments))
    except FaultError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config))


async def _serve(config: SimulatedConfig) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = SimulatedVllm(config)
    try:
        await server.start()
    except OSError as error:
        print(f"simulated vLLM {config.name} cannot listen: {error}", file=sys.stderr)
        return 1
    print(server.ready_line, flush=True)
    await stopping.wait()
    await server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = SimulatedConfig()
    parser = argparse.ArgumentParser(
        prog="python -m demo.simulated_vllm",
        description="A simulated model server: the HTTP APIs of vLLM, generated answers, injectable faults.",
    )
    add = parser.add_argument
    add("--name", default=defaults.name, help="Server name, for the logs (default %(default)s).")
    add("--model", default=defaults.model, help="Name of the served model (default %(default)s).")
    add(
        "--resample", type=float, default=0.0, help="Share of words replaced at random in every answer, 0..1."
    )
    add("--alter", type=float, default=0.0, help="Share of words always replaced in the same way, 0..1.")
    add(
        "--flavour",
        choices=[flavour.value for flavour in Flavour],
        default="a",
        help="Simulated model version (default a).",
    )
    add("--host", default=defaults.host, help="Address to listen on (default %(default)s).")
    add("--port", type=int, default=defaults.port, help="Port; 0 picks a free one (default).")
    add("--uds", type=Path, help="Path of a Unix socket to listen on instead of host and port.")
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="Seed of sampling, jitter and the choice of requests that a fault hits (default %(default)s).",
    )
    add(
        "--first-token",
        type=duration,
        default=defaults.first_token,
        metavar="TIME",
        help="Time to the first token (default 20ms).",
    )
    add(
        "--inter-token",
        type=duration,
        default=defaults.inter_token,
        metavar="TIME",
        help="Time between tokens (default 2ms).",
    )
    add(
        "--max-model-len",
        type=int,
        default=defaults.max_model_len,
        metavar="TOKENS",
        help="Context length (default %(default)s).",
    )
    add(
        "--keep-alive",
        type=duration,
        default=defaults.keep_alive,
        metavar="TIME",
        help="How long an idle connection stays open (default 5s).",
    )
    add(
        "--shutdown-timeout",
        type=duration,
        default=defaults.shutdown_timeout,
        metavar="TIME",
        help="Time for answers in progress after SIGTERM or SIGINT (default 10s).",
    )
    add("--require-header", metavar="NAME", help="Return 403 on /v1/* for requests without this header.")
    add(
        "--fault",
        choices=[mode.value for mode in FaultMode],
        default="none",
        help="Fault that is active from the start.",
    )
    add(
        "--fault-rate",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="Share of requests that the fault hits, 0..1.",
    )
    add(
        "--fault-api",
        action="append",
        choices=[api.value for api in Api],
        default=[],
        metavar="API",
        help="API whose requests the fault hits; repeatable (default: every API that accepts a POST).",
    )
    add(
        "--fault-status",
        type=int,
        default=500,
        metavar="STATUS",
        help="Status of the fault `error` (default %(default)s).",
    )
    add(
        "--compress",
        choices=["accept", *CODINGS],
        help="Content encoding of all answers; `accept` takes the one that the request prefers.",
    )
    return parser


def _config(arguments: argparse.Namespace) -> SimulatedConfig:
    return SimulatedConfig(
        name=arguments.name,
        model=arguments.model,
        flavour=Flavour(arguments.flavour),
        resample=arguments.resample,
        alter=arguments.alter,
        host=arguments.host,
        port=arguments.port,
        uds=arguments.uds,
        seed=arguments.seed,
        first_token=arguments.first_token,
        inter_token=arguments.inter_token,
        max_model_len=arguments.max_model_len,
        keep_alive=arguments.keep_alive,
        shutdown_timeout=arguments.shutdown_timeout,
        require_header=arguments.require_header,
        fault=Fault.parse(
            {
                "mode": arguments.fault,
                "rate": arguments.fault_rate,
                "api": arguments.fault_api,
                "status": arguments.fault_status,
            }
        ),
        compress=arguments.compress,
    )


if __name__ == "__main__":
    sys.exit(main())
