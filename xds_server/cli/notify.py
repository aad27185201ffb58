"""`shiftplane notify`: what `serve --notify` would send, tried out; needs no server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xds_server.cli.client import Exit, actor, output_option
from xds_server.cli.out import print_data
from xds_server.cli.specs import read_settings

if TYPE_CHECKING:
    from xds_server.notifications.delivery import DeliveryResult
    from xds_server.notifications.messages import Notifications, Target

__all__ = ["notify", "read_notifications"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def read_notifications(file: Path) -> Notifications:
    """Read the settings and the files they name, which are looked for beside them.

    Raises:
        click.ClickException: There are problems; each was printed with its place.
    """
    from xds_server.notifications.messages import load_notifications

    return read_settings(file, load_notifications, "nobody would be told")


@click.group()
def notify() -> None:
    """Try out who is told of what happens to routes.

    Example: shiftplane notify test --notify notify.yaml
    """


@notify.command()
@click.option("--notify", "file", type=_FILE, required=True, help="The file of serve --notify.")
@click.option("--target", "names", multiple=True, help="Only this target; repeatable.")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=10, show_default=True, help="In seconds.")
@output_option
@click.pass_context
def test(ctx: click.Context, file: Path, names: tuple[str, ...], timeout: float, output: str) -> None:
    """Send one message to each target, once, and say what came back.

    Exit code 0 when all of them took it, 1 when not. Example: shiftplane notify test --notify notify.yaml
    """
    found = read_notifications(file)
    known = [target.name for target in found.targets]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"there is no target {unknown[0]!r}; there are {', '.join(known)}")
    targets = [target for target in found.targets if not names or target.name in names]
    answers = asyncio.run(_send(targets, found.public_url, timeout))
    told = [(target, answer) for target, answer in zip(targets, answers, strict=True)]
    if output != "table":
        print_data({"targets": [_document(*one) for one in told]}, output)
    else:
        for target, answer in told:
            click.echo(_line(target, answer))
    if not all(answer.delivered for answer in answers):
        ctx.exit(Exit.REFUSED)


async def _send(targets: list[Target], public_url: str | None, within: float) -> list[DeliveryResult]:
    from xds_server.notifications.delivery import client_session, post
    from xds_server.notifications.messages import TEST_KIND, Event, render

    now = time.time()
    words = "a test; nothing happened to any route"
    event = Event(seq=0, place=0, at=now, route="example", kind=TEST_KIND, actor=actor(), message=words)

    async def told(target: Target) -> DeliveryResult:
        async with client_session() as through:
            message = render(target, event, public_url)
            return await post(through, target, message, now=now, timeout_seconds=within)

    return await asyncio.gather(*(told(target) for target in targets))


def _document(target: Target, answer: DeliveryResult) -> dict[str, Any]:
    return {
        "name": target.name,
        "type": target.format.value,
        "delivered": answer.delivered,
        "status": answer.status,
        "answer": answer.reason,
    }


def _line(target: Target, answer: DeliveryResult) -> str:
    came = " ".join(str(part) for part in (answer.status, answer.reason) if part)
    return f"{target.name} ({target.format.value}): {'delivered' if answer.delivered else 'FAILED'}: {came}"
