"""A simulated model server: the HTTP APIs of vLLM, generated answers, and faults that can be injected."""

from __future__ import annotations

from demo.simulated.answers import Flavour
from demo.simulated.config import VERSION, SimulatedConfig
from demo.simulated.faults import NO_FAULT, Fault, FaultError
from demo.simulated.modes import FaultMode
from demo.simulated.server import SimulatedVllm
from demo.simulated.wire import Api

__all__ = [
    "NO_FAULT",
    "VERSION",
    "Api",
    "Fault",
    "FaultError",
    "FaultMode",
    "Flavour",
    "SimulatedConfig",
    "SimulatedVllm",
]
