"""Turns the GGUF weights into a folder that vLLM loads: ``python convert.py IN OUT``, by vLLM's own Python.

It stands alone: the environment it runs in holds transformers, but not this project.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["convert"]


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and its tokenizer, dequantised, to `folder`.

    Raises:
        ValueError: The file carries no chat template, so the model could not be talked to.
    """
    transformers: Any = importlib.import_module("transformers")
    source, file = str(gguf.parent), gguf.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=file)
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf} carries no chat template")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=file,
        # Left in their blocks the weights could not be saved as safetensors.
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
