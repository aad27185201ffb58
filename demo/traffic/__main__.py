"""Traffic from the command line: ``python -m demo.traffic --url http://127.0.0.1:10000 --rate 50 -o json``.

Exit code 0 when every answer was good, 1 when any was not, 2 for wrong arguments, 130 when ended by Ctrl-C
twice. The first Ctrl-C sends no more, waits for what is in flight and reports.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.loops import loop_factory
from demo.traffic import Traffic, TrafficConfig, split_sample
from demo.units import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Send traffic and report it."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        config = _config(asked)
    except ValueError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            report = runner.run(_split(asked) if asked.split else _steady(config, asked.records))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130
    print(json.dumps(report, indent=2) if asked.output == "json" else _readable(report))
    return 1 if report["failed"] else 0


async def _steady(config: TrafficConfig, records: Path | None) -> dict[str, Any]:
    traffic = Traffic(config)
    running = asyncio.ensure_future(traffic.run())

    def interrupted() -> None:
        if traffic.stopping:
            running.cancel()
            return
        traffic.stop()
        waiting = traffic.snapshot().in_flight
        print(f"waiting for {waiting} answers, Ctrl-C again to give up", file=sys.stderr, flush=True)

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
    snapshot = await running
    if records is not None:
        lines = "".join(f"{json.dumps(exchange.document())}\n" for exchange in traffic.records)
        await asyncio.to_thread(records.write_text, lines, encoding="utf-8")
    return snapshot.document()


async def _split(asked: argparse.Namespace) -> dict[str, Any]:
    prefix = asked.user_prefix
    sample = await split_sample(
        asked.url, asked.split, asked.max_in_flight, prefix, model=asked.model, seconds=asked.duration
    )
    return sample.document()


def _parser() -> argparse.ArgumentParser:
    defaults = TrafficConfig(url="")
    parser = argparse.ArgumentParser(
        prog="python -m demo.traffic", description="Users who ask a chat endpoint at a steady rate."
    )
    add = parser.add_argument
    add("--url", required=True, help="where to send, as http://127.0.0.1:10000")
    add("--users", type=int, default=defaults.users)
    add("--rate", type=float, default=defaults.rate, help="requests per second (default %(default)s)")
    add("--duration", type=duration, default=defaults.duration, metavar="TIME", help="as 20s (default)")
    add("--stream-share", type=float, default=defaults.stream_share, metavar="SHARE", help="0..1")
    add("--model", default=defaults.model)
    add("--user-prefix", default=defaults.user_prefix)
    add("--temperature", type=float)
    add("--max-tokens", type=int)
    add("--max-in-flight", type=int, default=defaults.max_in_flight)
    add("--request-timeout", type=duration, default=defaults.request_timeout, metavar="TIME")
    add("--seed", type=int, default=defaults.seed)
    add("--split", type=int, metavar="N", help="instead: one request for each of N users, at full speed")
    add("--records", type=Path, metavar="FILE", help="write each exchange to FILE, one JSON object a line")
    add("-o", "--output", choices=["text", "json"], default="text")
    return parser


def _config(asked: argparse.Namespace) -> TrafficConfig:
    return TrafficConfig(
        url=asked.url,
        users=asked.users,
        rate=asked.rate,
        duration=asked.duration,
        stream_share=asked.stream_share,
        model=asked.model,
        user_prefix=asked.user_prefix,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        max_in_flight=asked.max_in_flight,
        request_timeout=asked.request_timeout,
        seed=asked.seed,
    )


def _readable(report: Mapping[str, Any]) -> str:
    def shown(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    return "\n".join(f"{name.replace('_', ' '):20}{shown(value)}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
