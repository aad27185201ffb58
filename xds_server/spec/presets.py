"""Predefined deployment strategies, with the names and values of AWS AppConfig."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from xds_server.spec.strategies import GrowthSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS"]


def _preset(
    growth_type: Literal["Linear", "Exponential"], factor: int, minutes: float, bake: float
) -> GrowthSpec:
    return GrowthSpec.model_validate(
        {
            "growthType": growth_type,
            "growthFactor": factor,
            "deploymentDuration": timedelta(minutes=minutes),
            "finalBakeTime": timedelta(minutes=bake),
        }
    )


PRESETS: Final[Mapping[str, GrowthSpec]] = MappingProxyType(
    {
        "AllAtOnce": _preset("Linear", 100, 0, 10),
        "Linear50PercentEvery30Seconds": _preset("Linear", 50, 1, 1),
        "Linear20PercentEvery6Minutes": _preset("Linear", 20, 30, 30),
        "Canary10Percent20Minutes": _preset("Exponential", 10, 20, 10),
    }
)
