"""Real vLLM servers on the CPU with a small real model: prepared once, then started side by side.

They are slow, but real: vLLM's own scheduler, tokens, streams and shutdown.
"""

from __future__ import annotations

from demo.real.command import Dtype, ServerConfig, server_command
from demo.real.commands import PrepareError
from demo.real.prepare import Preparation
from demo.real.server import RealVllm, cores, launch, start_pair, stop_all, wait_ready

__all__ = [
    "Dtype",
    "Preparation",
    "PrepareError",
    "RealVllm",
    "ServerConfig",
    "cores",
    "launch",
    "server_command",
    "start_pair",
    "stop_all",
    "wait_ready",
]
