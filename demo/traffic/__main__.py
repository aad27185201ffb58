"""Traffic from the command line: ``python -m demo.traffic --url http://127.0.0.1:10000 -o json``.

Exit code 0 when every answer was good, 1 when any was not, 2 for wrong arguments, 130 when aborted. The first
Ctrl-C stops sending, waits for the requests in flight and prints the report; the second one aborts. With
``--split``, the first one aborts.
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
    """Send traffic and print a report."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = _config(options)
    except ValueError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            report = runner.run(_split(options) if options.split else _steady(config, options.records))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130
    print(json.dumps(report, indent=2) if options.output == "json" else _readable(report))
    return 1 if report["failed"] else 0


async def _steady(config: TrafficConfig, records: Path | None) -> dict[str, Any]:
    traffic = Traffic(config)
    running = asyncio.ensure_future(traffic.run())

    def interrupted() -> None:
        if traffic.stopping:
            running.cancel()
            return
        traffic.stop()
        pending = traffic.snapshot().in_flight
        print(
            f"waiting for the requests in flight ({pending}); press Ctrl-C again to abort",
            file=sys.stderr,
            flush=True,
        )

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
    snapshot = await running
    if records is not None:
        lines = "".join(f"{json.dumps(exchange.document())}\n" for exchange in traffic.records)
        await asyncio.to_thread(records.write_text, lines, encoding="utf-8")
    return snapshot.document()


async def _split(options: argparse.Namespace) -> dict[str, Any]:
    prefix = options.user_prefix
    sample = await split_sample(
        options.url,
        options.split,
        options.max_in_flight,
        prefix,
        model=options.model,
        seconds=options.duration,
    )
    return sample.document()


def _parser() -> argparse.ArgumentParser:
    defaults = TrafficConfig(url="")
    parser = argparse.ArgumentParser(
        prog="python -m demo.traffic",
        description="Send requests of simulated users to a chat endpoint at a fixed rate.",
    )
    add = parser.add_argument
    add("--url", required=True, help="Base URL of the endpoint, such as http://127.0.0.1:10000.")
    add("--users", type=int, default=defaults.users, help="Number of users (default %(default)s).")
    add("--rate", type=float, default=defaults.rate, help="Requests per second (default %(default)s).")
    add(
        "--duration",
        type=duration,
        default=defaults.duration,
        metavar="TIME",
        help="How long to send, such as 5m; with --split, the limit for all answers (default 20s).",
    )
    add(
        "--stream-share",
        type=float,
        default=defaults.stream_share,
        metavar="SHARE",
        help="Share of streamed requests, 0..1.",
    )
    add("--model", default=defaults.model, help="Model that the requests name (default %(default)s).")
    add(
        "--user-prefix",
        default=defaults.user_prefix,
        metavar="PREFIX",
        help="Beginning of the user names, followed by -00000 and so on (default %(default)s).",
    )
    add("--temperature", type=float, help="Temperature of the requests (default: not sent).")
    add("--max-tokens", type=int, help="Maximum number of tokens of an answer (default: not sent).")
    add(
        "--max-in-flight",
        type=int,
        default=defaults.max_in_flight,
        help="Maximum number of requests in flight; requests beyond it are not sent (default %(default)s).",
    )
    add(
        "--request-timeout",
        type=duration,
        default=defaults.request_timeout,
        metavar="TIME",
        help="Time within which each answer must be complete (default 30s).",
    )
    add("--seed", type=int, default=defaults.seed, help="Seed of users and prompts (default %(default)s).")
    add("--split", type=int, metavar="N", help="Send one request for each of N users at full speed instead.")
    add(
        "--records",
        type=Path,
        metavar="FILE",
        help="Write each request and its result to FILE, one JSON object per line.",
    )
    add("-o", "--output", choices=["text", "json"], default="text", help="Format of the report.")
    return parser


def _config(options: argparse.Namespace) -> TrafficConfig:
    return TrafficConfig(
        url=options.url,
        users=options.users,
        rate=options.rate,
        duration=options.duration,
        stream_share=options.stream_share,
        model=options.model,
        user_prefix=options.user_prefix,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        max_in_flight=options.max_in_flight,
        request_timeout=options.request_timeout,
        seed=options.seed,
    )


def _readable(report: Mapping[str, Any]) -> str:
    def shown(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    return "\n".join(f"{name.replace('_', ' '):20}{shown(value)}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
