"""Converts GGUF weights to a folder that vLLM loads: ``python convert.py IN OUT``.

vLLM's Python runs the script. It imports nothing of this project, because vLLM's environment has transformers
but not this project.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["convert"]


def convert(gguf: Path, folder: Path) -> None:
    """Write the dequantized model and its tokenizer to `folder`.

    Raises:
        ValueError: The file contains no chat template, so the chat endpoint would not work.
    """
    transformers: Any = importlib.import_module("transformers")
    source, file = str(gguf.parent), gguf.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=file)
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf} contains no chat template")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=file,
        # Quantized blocks cannot be saved as safetensors.
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
