"""How one simulated server is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from demo.simulated.answers import Flavour
from demo.simulated.faults import NO_FAULT, Fault

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VERSION", "SimulatedConfig"]

VERSION: Final = "0.32.0+simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedConfig:
    """One simulated server. Times in seconds, sizes in bytes.

    ``port`` 0 takes a free one. ``uds`` replaces host and port. ``keep_alive`` is how long an idle
    connection is kept; the default is vLLM's own. ``require_header`` names a header without which ``/v1/*``
    answers 403. ``seed`` drives sampling, jitter and which requests a fault hits; answers at temperature 0
    ignore it. ``resample`` is the share of words drawn anew for every answer, at any temperature, as a model
    that samples would; ``alter`` the share of words this model always says otherwise.
    """

    name: str = "v1"
    model: str = "chat-large"
    flavour: Flavour = Flavour.A
    host: str = "127.0.0.1"
    port: int = 0
    uds: Path | None = None
    seed: int = 0
    first_token: float = 0.02
    inter_token: float = 0.002
    max_model_len: int = 32_768
    max_body: int = 64 * 1024 * 1024
    keep_alive: float = 5.0
    shutdown_timeout: float = 10.0
    keep_requests: int = 512
    require_header: str | None = None
    fault: Fault = NO_FAULT
    resample: float = 0.0
    alter: float = 0.0
