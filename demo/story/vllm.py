"""Two real vLLM servers for the story."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.processes import free_port
from demo.real.server import start_pair
from demo.story.stage import Backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.real import RealVllm
    from demo.story.stage import Stage

__all__ = ["start_both"]


def start_both(stage: Stage, root: Path, say: Callable[[str], None]) -> tuple[Backend, Backend]:
    """Start an old and a new server from what was prepared in `root`, and wait until both answer."""
    servers = start_pair(root, (free_port(), free_port()), stage.folder, say=say)
    stage.processes.extend(server.process for server in servers)
    old, new = servers
    return _backend("v1", old), _backend("v2", new)


def _backend(name: str, server: RealVllm) -> Backend:
    address = server.base_url.removeprefix("http://")
    return Backend(
        name=name,
        address=address,
        model=server.config.name,
        label=f"{name}: real vLLM on the CPU, model {server.config.name}",
    )
