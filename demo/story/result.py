"""The checks of the demo and its summary, which is printed last as one JSON object."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from demo.story.printer import StoryPrinter
    from demo.traffic import SplitSample

__all__ = ["Result"]

_Z_999: Final = 3.2905  # two-sided 99.9 %


@dataclass(slots=True, kw_only=True)
class Result:
    """The outcome of the checks; ``broken`` lists those that failed.

    ``split`` is the share of users on the candidate in percent, by weight. ``sampled`` and ``sample_failed``
    are the numbers of all and of the failed requests that measured it.
    """

    printer: StoryPrinter
    broken: list[str] = field(default_factory=list)
    split: dict[str, float] = field(default_factory=dict)
    moved_back: int = 0
    sampled: int = 0
    sample_failed: int = 0

    def check(self, passed: bool, text: str) -> None:  # noqa: FBT001 - a check and its text
        """Print a check, and record it if it failed."""
        if passed:
            self.printer.passed(text)
        else:
            self.broken.append(text)
            self.printer.failed(f"check failed: {text}")

    def check_split(self, sample: SplitSample, weight: int) -> None:
        """Check that the share of the sampled users on v2 is near the weight, in percent."""
        share, expected = sample.share("v2"), weight / 100
        band = _Z_999 * math.sqrt(expected * (1 - expected) / sample.total)
        self.sampled += sample.total
        self.sample_failed += sample.failed
        self.split[str(weight)] = round(100 * share, 3)
        self.check(
            abs(share - expected) <= band,
            f"{100 * share:.2f} % of the sampled users were served by v2 "
            f"(expected {weight} % ± {100 * band:.2f}, the 99.9 % range of a random split)",
        )

    def check_moved_back(self, before: SplitSample, after: SplitSample) -> None:
        """Check that the users whom v2 served in the first sample are also served by v2 in the second."""
        on_v2 = {user for user, variant in before.by_user.items() if variant == "v2"}
        self.moved_back = sum(after.by_user.get(user) != "v2" for user in on_v2)
        if before.total:
            self.check(
                self.moved_back == 0,
                f"of the {len(on_v2):,} users on v2 at 5 %, {self.moved_back} moved back to v1 at 25 %",
            )

    def print_summary(self, *, sent: int, failed: int, pairs: int, seconds: float, folder: Path) -> int:
        """Print the JSON summary and return the exit code: 0 when every check passed."""
        self.printer.plain()
        summary: dict[str, Any] = {
            "demo": "fail" if self.broken else "pass",
            "requests": sent,
            "failed": failed,
            "moved_back": self.moved_back,
            "pairs": pairs,
            "split": self.split,
            "seconds": round(seconds, 1),
        }
        if self.broken:
            summary["broken"] = self.broken
            self.printer.plain(f"Logs: {folder}")
        sys.stdout.flush()
        self.printer.plain(json.dumps(summary))
        return 1 if self.broken else 0
