"""The route specs of the demo, written to files that the user can open, change and apply again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from demo.story.programs import Backend

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
      - {name: duration-p50, maxRatio: 1.5, minSamples: 20}
"""


def shadow(  # noqa: PLR0913 - the fields of one spec
    folder: Path,
    number: int,
    model: str,
    stable: Backend,
    candidate: Backend,
    *,
    percent: int,
    noise: int = 0,
) -> Path:
    """Write a shadow spec.

    `percent` of the requests are copied to the candidate. `noise` percent of those are also copied to the
    stable backend, as the noise baseline.
    """
    compare = _COMPARE.format(noise=noise) if noise else ""
    text = _head(model, stable, candidate) + _SHADOW.format(percent=percent, compare=compare)
    return _write(folder, f"{number}-shadow.yaml", text)


def canary(  # noqa: PLR0913 - the fields of one spec
    folder: Path,
    number: int,
    model: str,
    stable: Backend,
    candidate: Backend,
    *,
    steps: list[str],
    bake: str,
    analyzed: bool = False,
) -> Path:
    """Write a canary spec; with `analyzed`, it rolls back when a metric of the candidate becomes worse."""
    listed = "\n".join(f"        - {step}" for step in steps)
    text = _head(model, stable, candidate) + _CANARY.format(steps=listed, bake=bake)
    text += _ANALYSIS if analyzed else ""
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
