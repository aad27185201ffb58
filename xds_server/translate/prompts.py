"""System prompts of the IR → the route metadata that the rewrite filter reads (pure).

The prompt is in the metadata of the route and not of each arm: it is long, and does not depend on the arm.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.google.protobuf import Struct

if TYPE_CHECKING:
    from xds_server import ir

__all__ = ["prompt_metadata"]


def prompt_metadata(prompt: ir.Prompt, filter_name: str) -> Metadata:
    """Return the metadata of a route; texts are escaped for use inside a JSON string."""
    values: dict[str, Any] = {
        "texts": {
            text.version: {"text": json.dumps(text.text, ensure_ascii=False)[1:-1], "mode": text.mode.value}
            for text in prompt.texts
        },
        "default": prompt.default,
        "pins": [
            {"header": pin.header, "version": pin.version, "values": dict.fromkeys(pin.values, True)}
            for pin in prompt.pins
        ],
    }
    if prompt.stickiness is not None:
        ends = accumulate(length for _, length in prompt.slots)
        values["header"], values["salt"] = prompt.stickiness.header, prompt.stickiness.salt
        values["slots"] = [
            {"version": version, "upto": upto} for (version, _), upto in zip(prompt.slots, ends, strict=True)
        ]
    return Metadata(filter_metadata={filter_name: Struct.from_dict({"prompt": values})})
