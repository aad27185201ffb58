"""The hint on an effect that leaves the rate of an A/B test as it is."""

from __future__ import annotations

import pytest

from xds_server.spec import load

ROUTE = """\
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  proxies: {group: chat}
  backends:
    - {name: v1, endpoints: ["10.0.0.1:8000"]}
    - {name: v2, endpoints: ["10.0.0.2:8000"]}
  stable: v1
  attributes: {user.id: {header: x-user-id}}
  strategy:
    abTest:
      randomizationUnit: user.id
      variants: [{backend: v2, weight: 50}]
      primaryMetric: {name: purchase, METRIC}
"""


@pytest.mark.parametrize(
    ("column", "baseline", "effect", "hint"),
    [
        ("Good", "0.1", "absolute: 0", "use an effect greater than 0"),
        ("Bad", "0.1", "relative: 0", "use an effect greater than 0"),
        ("Good", "0", "relative: 0.5", "use an absolute effect greater than 0"),
        ("Bad", "0", "relative: 0.5", "use a baseline greater than 0"),
    ],
)
def test_the_hint_removes_the_problem(column: str, baseline: str, effect: str, hint: str) -> None:
    metric = f"column: {column}, baseline: {baseline}, minimumDetectableEffect: {{{effect}}}"
    problems = [str(problem) for problem in load(ROUTE.replace("METRIC", metric), file="x.yaml").problems]
    assert any(f"does not change the baseline, which is {baseline}; {hint}" in one for one in problems), (
        problems
    )
