"""The route specs of the story, written to files a reader can open, change and apply again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from demo.story.stage import Backend

__all__ = ["canary", "shadow"]

_HEAD = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  proxies: {{group: demo}}
  match: {{path: {{prefix: /v1/}}}}
  model: {model}
  backends:
{backends}
  stable: {stable}
  candidate: {candidate}
"""

_SHADOW = """\
  strategy:
    shadow:
      percentage: {percent}{compare}
"""
_COMPARE = """
      compare: {{noiseBaseline: {{percentage: {noise}}}}}"""

_CANARY = """\
  attributes:
    user.id: {{header: x-user-id}}
  strategy:
    canary:
      stickiness: {{attribute: user.id, salt: demo}}
      steps:
{steps}
      finalBakeTime: {bake}
"""


_ANALYSIS = """\
  analysis:
    interval: 1s
    metrics:
      - {name: success-rate}
      - {name: duration-p50, maxRatio: 1.5}
"""


def shadow(  # noqa: PLR0913 - the words of one spec
    folder: Path,
    number: int,
    model: str,
    stable: Backend,
    candidate: Backend,
    *,
    percent: int,
    noise: int = 0,
) -> Path:
    """Write a spec that copies `percent` of the requests, and of those `noise` percent to both backends."""
    compare = _COMPARE.format(noise=noise) if noise else ""
    text = _head(model, stable, candidate) + _SHADOW.format(percent=percent, compare=compare)
    return _write(folder, f"{number}-shadow.yaml", text)


def canary(  # noqa: PLR0913 - the words of one spec
    folder: Path,
    number: int,
    model: str,
    stable: Backend,
    candidate: Backend,
    *,
    steps: list[str],
    bake: str,
    judged: bool = False,
) -> Path:
    """Write a spec that moves users step by step; `judged`, only as long as the candidate is no worse."""
    listed = "\n".join(f"        - {step}" for step in steps)
    text = _head(model, stable, candidate) + _CANARY.format(steps=listed, bake=bake)
    text += _ANALYSIS if judged else ""
    return _write(folder, f"{number}-canary.yaml", text)


def _head(model: str, stable: Backend, candidate: Backend) -> str:
    backends = "\n".join(
        f'    - {{name: {b.name}, endpoints: ["{b.address}"], modelNameOverride: {b.model}}}'
        for b in (stable, candidate)
    )
    return _HEAD.format(model=model, backends=backends, stable=stable.name, candidate=candidate.name)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
