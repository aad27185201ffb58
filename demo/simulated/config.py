"""Configuration of one simulated server."""

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
    """Configuration of one simulated server. Times in seconds, sizes in bytes.

    ``port`` 0 picks a free port. ``uds`` is the path of a Unix socket, used instead of host and port.
    ``keep_alive`` is how long an idle connection stays open; the default is that of vLLM. ``require_header``
    names a header without which ``/v1/*`` returns 403. ``seed`` drives sampling, jitter and the choice of the
    requests that a fault hits; answers at temperature 0 do not depend on it without ``resample`` and without
    a fault that generates random text. ``resample`` is the share of words replaced at random in every text,
    at any temperature; ``alter`` is the share of the other words that this model always replaces in the same
    way. ``keep_requests`` is how many of the last requests the request log of the admin API contains.
    ``compress`` is the content encoding of every answer: ``accept`` uses the one that
    the request prefers, and None encodes no answer, as in vLLM.
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
    compress: str | None = None
