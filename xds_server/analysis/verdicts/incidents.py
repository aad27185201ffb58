"""Blocks in which the control had its own incident, which are no evidence on the candidate (pure).

While all requests of the control fail, a candidate without a failure looks far better than it is. Half a
minute of that outweighs many minutes in which the candidate fails, so that its own failures would be found
late. Such a block is left out. Only the control's counts decide: if the candidate's counted too, blocks would
be selected by how well it did, and a candidate that is no worse could look worse.

Times are compared as they are: they follow the load, which both arms share, and jump without an incident.
A change that lasts is no incident but the new state of the control, and a control that is down again and
again is compared as it is: at most 70 seconds in a row are left out, and about 140 in half an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import Final

__all__ = ["ControlIncidents"]

_LONGEST: Final = 70.0
"""Seconds in a row that can be left out."""
_MOST: Final = 140.0
"""Seconds that can be left out in all, with older ones fading."""
_HALF_LIFE: Final = 1200.0
"""Seconds after which a block that was left out counts half."""
_JUMP: Final = 0.3
"""How far above its usual value the failed share of the control must be in a block that is left out."""
_END: Final = 0.03
"""How far above its usual value the failed share must be in a block after one that was left out.

The incident may have ended in the middle of this block.
"""
_LEAST: Final = 60
"""Minimum number of failures (for a mean: requests) of the control in a block that is left out.

Fewer may be the retries of one user.
"""
_LEAST_IF_ALL: Final = 30
"""The same minimum if nearly all requests of the control failed."""
_NEARLY_ALL: Final = 0.9
_FACTOR: Final = 2.0
"""By what factor the mean of the control has to be above or below its usual value."""
_SMOOTHING: Final = 0.1
"""The weight of ten seconds in the usual share."""
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIncidents:
    """The usual failed share of the control, and the blocks left out.

    `present` is whether the newest block is left out. `recent` has the seconds, failures and requests of the
    newest blocks with an unusual share, over ten seconds at most: the failures of short blocks count
    together. `in_row` are the seconds of unusual blocks without a usual one between them, `left_out` the
    seconds of the blocks left out, with older ones fading.
    """

    usual: float | None = None
    in_row: float = 0.0
    left_out: float = 0.0
    present: bool = False
    recent: tuple[float, int, int] = (0.0, 0, 0)

    def add_share(self, failed: int, total: int, seconds: float) -> ControlIncidents:
        """Return the state after a block in which `failed` of `total` requests of the control failed."""
        if not total:
            return replace(self, present=False)
        share = failed / total
        usual = share if self.usual is None else self.usual
        recent = (0.0, 0, 0)
        if share >= usual + _JUMP:
            known = self.recent if self.recent[0] + seconds <= _SECONDS else recent
            recent = known[0] + seconds, known[1] + failed, known[2] + total
        enough = recent[1] > 0 and recent[1] >= (
            _LEAST_IF_ALL if recent[1] >= _NEARLY_ALL * recent[2] else _LEAST
        )
        unusual = enough or (self.present and share >= usual + _END)
        after = replace(self._after(unusual, seconds), recent=recent)
        if after.present:
            return after
        smoothing = 1 - (1 - _SMOOTHING) ** (seconds / _SECONDS)
        return replace(after, usual=usual + smoothing * (share - usual))

    def add_mean(self, logarithm: float, total: int, seconds: float) -> ControlIncidents:
        """Return the state after a block; `logarithm` is that of the control's mean over its usual mean."""
        return self._after(total >= _LEAST and abs(logarithm) >= log(_FACTOR), seconds)

    def _after(self, unusual: bool, seconds: float) -> ControlIncidents:  # noqa: FBT001 - private
        in_row = self.in_row + seconds if unusual else 0.0
        left_out = self.left_out * 0.5 ** (seconds / _HALF_LIFE)
        present = unusual and in_row <= _LONGEST and left_out + seconds <= _MOST
        return replace(
            self, in_row=in_row, left_out=left_out + (seconds if present else 0.0), present=present
        )
