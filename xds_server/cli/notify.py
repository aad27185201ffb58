"""`shiftplane notify`: test the notification settings of `serve --notify`, without a server."""

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
    """Read a file of notification settings, and the files it refers to by paths relative to its folder.

    Raises:
        click.ClickException: The file cannot be read or is not UTF-8, or its settings are invalid. Each
            problem of the settings was printed with its position.
    """
    from xds_server.notifications.messages import load_notifications

    return read_settings(file, load_notifications, "no notification would be sent")


@click.group()
def notify() -> None:
    """Test notification settings.

    Example: shiftplane notify test --notify notify.yaml
    """


@notify.command()
@click.option(
    "--notify",
    "file",
    type=_FILE,
    required=True,
    help="Path to the notification settings (see docs/notifications.md).",
)
@click.option("--target", "names", multiple=True, help="Name of a target. Repeatable. Default: all targets.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=10, show_default=True, help="Timeout in seconds."
)
@output_option
@click.pass_context
def test(ctx: click.Context, file: Path, names: tuple[str, ...], timeout: float, output: str) -> None:
    """Send one test message to each target and show the responses.

    Exit code: 0 if all targets accepted the message, 1 otherwise.

    Example: shiftplane notify test --notify notify.yaml
    """
    settings = read_notifications(file)
    known = [target.name for target in settings.targets]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"unknown target {unknown[0]!r}; defined targets: {', '.join(known)}")
    targets = [target for target in settings.targets if not names or target.name in names]
    answers = asyncio.run(_send(targets, settings.public_url, timeout))
    results = [(target, answer) for target, answer in zip(targets, answers, strict=True)]
    if output != "table":
        print_data({"targets": [_document(*one) for one in results]}, output)
    else:
        for target, answer in results:
            click.echo(_line(target, answer))
    if not all(answer.delivered for answer in answers):
        ctx.exit(Exit.FAILED)


async def _send(targets: list[Target], public_url: str | None, within: float) -> list[DeliveryResult]:
    from xds_server.notifications.delivery import client_session, post
    from xds_server.notifications.messages import TEST_KIND, Event, render

    now = time.time()
    text = "test message; no route has changed"
    event = Event(seq=0, place=0, at=now, route="example", kind=TEST_KIND, actor=actor(), message=text)

    async def send(target: Target) -> DeliveryResult:
        async with client_session() as client:
            message = render(target, event, public_url)
            return await post(client, target, message, now=now, timeout_seconds=within)

    return await asyncio.gather(*(send(target) for target in targets))


def _document(target: Target, answer: DeliveryResult) -> dict[str, Any]:
    return {
        "name": target.name,
        "type": target.format.value,
        "delivered": answer.delivered,
        "status": answer.status,
        "answer": answer.reason,
    }


def _line(target: Target, answer: DeliveryResult) -> str:
    response = " ".join(str(part) for part in (answer.status, answer.reason) if part)
    return (
        f"{target.name} ({target.format.value}): {'delivered' if answer.delivered else 'FAILED'}: {response}"
    )
