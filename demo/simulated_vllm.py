"""The simulated vLLM server as a program: ``python -m demo.simulated_vllm --port 0 --name v2``.

Prints one line when it accepts connections (``simulated vLLM ready name=... url=... ...``) and ends on
SIGTERM or SIGINT after the running answers have finished.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.loops import loop_factory
from demo.simulated import Fault, FaultMode, Flavour, SimulatedConfig, SimulatedVllm
from demo.units import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal; 0 after a clean end, 1 when the address cannot be used."""
    config = _config(_parser().parse_args(arguments))
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
        description="A simulated vLLM server: vLLM's HTTP wire, invented answers, faults on demand.",
    )
    add = parser.add_argument
    add("--name", default=defaults.name, help="how it calls itself (default %(default)s)")
    add("--model", default=defaults.model, help="the model name it serves (default %(default)s)")
    add("--resample", type=float, default=0.0, help="share of words drawn anew for every answer")
    add("--alter", type=float, default=0.0, help="share of words this model always says otherwise")
    add("--flavour", choices=[flavour.value for flavour in Flavour], default="a", help="which model version")
    add("--host", default=defaults.host)
    add("--port", type=int, default=defaults.port, help="0 takes a free port (default)")
    add("--uds", type=Path, help="listen on this Unix socket instead of host and port")
    add("--seed", type=int, default=defaults.seed)
    add(
        "--first-token", type=duration, default=defaults.first_token, metavar="TIME", help="as 20ms (default)"
    )
    add("--inter-token", type=duration, default=defaults.inter_token, metavar="TIME", help="as 2ms (default)")
    add("--max-model-len", type=int, default=defaults.max_model_len, metavar="TOKENS")
    add("--keep-alive", type=duration, default=defaults.keep_alive, metavar="TIME", help="as 5s (default)")
    add("--shutdown-timeout", type=duration, default=defaults.shutdown_timeout, metavar="TIME")
    add("--require-header", metavar="NAME", help="answer 403 on /v1/* to requests without this header")
    add(
        "--fault",
        choices=[mode.value for mode in FaultMode],
        default="none",
        help="fault in force at the start",
    )
    add("--fault-rate", type=float, default=1.0, metavar="SHARE", help="share of requests it hits, 0..1")
    return parser


def _config(asked: argparse.Namespace) -> SimulatedConfig:
    return SimulatedConfig(
        name=asked.name,
        model=asked.model,
        flavour=Flavour(asked.flavour),
        resample=asked.resample,
        alter=asked.alter,
        host=asked.host,
        port=asked.port,
        uds=asked.uds,
        seed=asked.seed,
        first_token=asked.first_token,
        inter_token=asked.inter_token,
        max_model_len=asked.max_model_len,
        keep_alive=asked.keep_alive,
        shutdown_timeout=asked.shutdown_timeout,
        require_header=asked.require_header,
        fault=Fault(mode=FaultMode(asked.fault), rate=asked.fault_rate),
    )


if __name__ == "__main__":
    sys.exit(main())
