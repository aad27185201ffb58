"""The command line and the environment of one vLLM server on a CPU.

No I/O. The command sets the environment through `env`, so that one line starts the same server by hand.
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
"""Memory that one server needs, including its share of the shared libraries."""

_SITE: Final = Path(__file__).parent / "site"
_UNSET: Final = ("PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class Dtype(StrEnum):
    """Data type of the weights; on most CPUs, float32 gives the shorter time to the first token."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Configuration of one server.

    ``root`` is the prepared folder, ``name`` the served model name, ``core`` the one CPU core that computes.
    ``generation`` holds the sampling parameters of requests that set none, such as ``{"temperature": 0}``.
    ``shutdown_timeout`` is how many seconds answers in progress may take after SIGTERM; with 0, an open
    stream does not end and keeps the server from ending.
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
        """The base URL of the server, without a path."""
        return f"http://{self.host}:{self.port}"


def server_variables(config: ServerConfig) -> dict[str, str]:
    """Return the environment variables that the server needs in addition to the inherited ones."""
    return {
        # One core computes; no other is reserved for the engine's own loop.
        "VLLM_CPU_OMP_THREADS_BIND": str(config.core),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; 23,000 tokens of this model
        # The server's internal sockets would otherwise listen on the machine's external address.
        "VLLM_HOST_IP": config.host,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(_SITE),
        "PYTHONSAFEPATH": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def server_command(config: ServerConfig) -> list[str]:
    """Return the command of the server; `env` execs it, so the process id stays the same."""
    layout = Layout(config.root)
    unset = [argument for name in _UNSET for argument in ("-u", name)]
    settings = [f"{name}={value}" for name, value in server_variables(config).items()]
    generation = (
        ["--override-generation-config", json.dumps(dict(config.generation))] if config.generation else []
    )
    return [
        "env",
        *unset,
        *settings,
        str(layout.python),
        # Not the program `vllm`, which requires a distribution of that name; this one is called vllm-cpu.
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
    """Return an error message if the free memory is too little for this many servers, else None.

    `meminfo` is the text of /proc/meminfo; without a MemAvailable line the result is None.
    """
    needed = servers * MEMORY_BYTES
    for line in meminfo.splitlines():
        label, _, value = line.partition(":")
        if label == "MemAvailable" and (free := int(value.split()[0]) * 1024) < needed:
            who = "1 vLLM server needs" if servers == 1 else f"{servers} vLLM servers need"
            return f"{free / 1e9:.1f} GB of memory are free; {who} about {needed / 1e9:.1f} GB"
    return None
