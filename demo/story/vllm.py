"""Starts two real vLLM servers for the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demo.processes import free_port
from demo.real.server import start_pair
from demo.story.programs import Backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.real import RealVllm
    from demo.story.programs import Programs

__all__ = ["start_both"]


def start_both(programs: Programs, root: Path, report: Callable[[str], None]) -> tuple[Backend, Backend]:
    """Start a stable and a candidate server from the prepared folder `root`; wait for both."""
    servers = start_pair(root, (free_port(), free_port()), programs.folder, report=report)
    programs.processes.extend(server.process for server in servers)
    old, new = servers
    return _backend("v1", old), _backend("v2", new)


def _backend(name: str, server: RealVllm) -> Backend:
    address = server.base_url.removeprefix("http://")
    return Backend(
        name=name,
        address=address,
        model=server.config.name,
        label=f"{name} (real vLLM on the CPU, model {server.config.name})",
    )
