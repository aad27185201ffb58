"""The command line and the environment of one vLLM server on a CPU.

Pure. The environment is part of the command, through `env`, so that one line is all it takes to start the
same server by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.real.recipe import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEMORY_BYTES", "Dtype", "ServerConfig", "memory_problem", "server_command", "server_variables"]

MEMORY_BYTES: Final = 3.5e9
"""What one server takes, its share of the libraries included."""

_SITE: Final = Path(__file__).parent / "site"
_FOREIGN: Final = ("PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class Dtype(StrEnum):
    """How numbers are held; float32 gives the first token sooner on most CPUs."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server.

    ``root`` is the prepared folder, ``name`` the model name it serves, ``core`` the one CPU core it computes
    on. ``generation`` holds the sampling parameters of requests that name none (as ``{"temperature": 0}``).
    ``shutdown_timeout`` is how many seconds running answers get after SIGTERM; at 0 an open stream neither
    ends nor lets the server end.
    """

    root: Path
    name: str
    port: int
    core: int
    host: str = "127.0.0.1"
    max_model_len: int = 1024
    dtype: Dtype = Dtype.FLOAT32
    seed: int = 0
    generation: Mapping[str, float] = field(default_factory=dict)
    shutdown_timeout: int = 20

    @property
    def base_url(self) -> str:
        """Where it answers, without a path."""
        return f"http://{self.host}:{self.port}"


def server_variables(config: ServerConfig) -> dict[str, str]:
    """Return the environment variables that the server needs besides what it inherits."""
    return {
        # One core computes; none is set aside for the engine's own loop.
        "VLLM_CPU_OMP_THREADS_BIND": str(config.core),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; 23,000 tokens of this model
        # Its inner sockets would otherwise listen on the machine's outer address.
        "VLLM_HOST_IP": config.host,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(_SITE),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def server_command(config: ServerConfig) -> list[str]:
    """Return the command that becomes the server; it ends as the very process that was started."""
    layout = Layout(config.root)
    unset = [word for name in _FOREIGN for word in ("-u", name)]
    settings = [f"{name}={value}" for name, value in server_variables(config).items()]
    generation = (
        ["--override-generation-config", json.dumps(dict(config.generation))] if config.generation else []
    )
    return [
        "env",
        *unset,
        *settings,
        str(layout.python),
        # Not the program `vllm`: it looks for a distribution of that name, and this one is called vllm-cpu.
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(layout.model),
        "--served-model-name",
        config.name,
        "--host",
        config.host,
        "--port",
        str(config.port),
        "--enforce-eager",
        "--max-model-len",
        str(config.max_model_len),
        "--max-num-seqs",
        "8",
        "--dtype",
        config.dtype.value,
        "--seed",
        str(config.seed),
        "--shutdown-timeout",
        str(config.shutdown_timeout),
        *generation,
    ]


def memory_problem(meminfo: str, servers: int) -> str | None:
    """Say that the free memory is too little for so many servers, or None.

    `meminfo` is the text of /proc/meminfo; without its line MemAvailable nothing is known, and None returned.
    """
    needed = servers * MEMORY_BYTES
    for line in meminfo.splitlines():
        label, _, value = line.partition(":")
        if label == "MemAvailable" and (free := int(value.split()[0]) * 1024) < needed:
            return f"{free / 1e9:.1f} GB of memory are free; {servers} vLLM take about {needed / 1e9:.1f} GB"
    return None
