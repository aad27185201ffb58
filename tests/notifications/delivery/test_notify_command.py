"""The command `shiftplane notify test`: send one message to each target, and print the results."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result

from demo.processes import free_port
from tests.support.receiver import Receiver, Reply, receiving
from xds_server.cli import main

if TYPE_CHECKING:
    from pathlib import Path


async def invoke(*arguments: str) -> Result:
    """Run the command in a thread, because the receiver runs in this event loop."""
    runner = CliRunner(env={"SHIFTPLANE_ACTOR": "tester"})
    return await asyncio.to_thread(runner.invoke, main, ["notify", "test", *arguments])


def settings(folder: Path, receiver: Receiver) -> str:
    (folder / "hook").write_text(f"{receiver.url}\n", encoding="utf-8")
    file = folder / "notify.yaml"
    text = (
        "targets:\n"
        "- {name: slack, type: slack, urlFile: hook}\n"
        f"- {{name: away, type: webhook, url: 'http://127.0.0.1:{free_port()}/'}}\n"
        f"- {{name: events, type: cloudevents, url: '{receiver.url}', events: [killed]}}\n"
    )
    file.write_text(text, encoding="utf-8")
    return str(file)


async def test_the_result_of_each_target_is_printed(tmp_path: Path) -> None:
    async with receiving() as receiver:
        result = await invoke("--notify", settings(tmp_path, receiver))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "slack (slack): delivered: 200 ok",
        "away (webhook): FAILED: Connection refused",
        "events (cloudevents): delivered: 200 ok",
    ]
    texts = {json.dumps(message) for message in receiver.messages}
    assert len(texts) == 2
    assert all("test message; no route has changed" in text for text in texts)


async def test_one_target_can_be_selected_and_the_output_be_json(tmp_path: Path) -> None:
    async with receiving(Reply(status=403, body="no hook /hooks/wH1sp3r")) as receiver:
        result = await invoke("--notify", settings(tmp_path, receiver), "--target=slack", "-o", "json")
    assert result.exit_code == 1
    answer = {"status": 403, "answer": "no hook /[redacted]"}
    assert json.loads(result.stdout) == {
        "targets": [{"name": "slack", "type": "slack", "delivered": False, **answer}]
    }
    async with receiving() as receiver:
        result = await invoke("--notify", settings(tmp_path, receiver), "--target=slack")
    assert result.exit_code == 0
    assert "wH1sp3r" not in result.output


async def test_invalid_settings_and_unknown_targets_send_nothing(tmp_path: Path) -> None:
    async with receiving() as receiver:
        file = settings(tmp_path, receiver)
        result = await invoke("--notify", file, "--target=pager")
        assert result.exit_code == 2
        assert "unknown target 'pager'; defined targets: slack, away, events" in result.output
        (tmp_path / "hook").unlink()
        result = await invoke("--notify", file)
        assert result.exit_code == 1
        assert f"{file}:2:30: targets[0].urlFile: hook: No such file" in result.output
        assert receiver.bodies == []
