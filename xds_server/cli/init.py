"""`shiftplane init`: five questions, and a spec with the strategy that fits the answers.

| what the change is | strategy |
|---|---|
| infrastructure: another engine, quantisation or machine for the same model | blue-green |
| judged by what users do afterwards, such as a purchase | A/B test |
| another model | canary |
| and nobody knows yet how it answers | a shadow before the canary |
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from xds_server.cli.client import Exit
from xds_server.cli.specs import problems_of, read_specs, report

__all__ = ["init"]

_HEAD: Final = """\
# {what}
# Check it: shiftplane lint {file}   See it: shiftplane plan {file}   Begin: shiftplane apply {file}
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: {group}}}       # the Envoys that were bootstrapped with --group {group}
  match: {{path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, {stable}}}
    - {{name: v2, {candidate}}}
  stable: v1
"""
_USER: Final = "  attributes:\n    user.id: {{header: {header}}}   # users stay with what they got, by this\n"
_SHADOW: Final = """\
    shadow:
      percentage: 20
      maxTokensPerSecond: 2000       # what copies may cost the new model
      compare: {noiseBaseline: {percentage: 25}}   # how much the old model differs from itself
      promotion: {next: canary, minPairs: 200}     # on the verdict Equivalent
"""
_CANARY: Final = """\
    canary:
      stickiness: {attribute: user.id}
      steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 25}, {pause: {duration: 1h}},
              {setWeight: 50}, {pause: {}}, {setWeight: 100}]   # pause: {} waits for `shiftplane promote`
      finalBakeTime: 30m
"""
_AB: Final = """\
    abTest:
      randomizationUnit: user.id
      variants: [{{backend: v2, weight: 50}}]
      primaryMetric:                 # plan it with yours: shiftplane samplesize
        {{name: {metric}, column: Good, baseline: 0.10, minimumDetectableEffect: {{absolute: 0.02}}}}
      maxDuration: 14d
"""
_BLUE_GREEN: Final = """\
    blueGreen:
      previewMatch: [{attribute: tester, op: exists}]   # requests with x-tester see it first
      keepWarm: 72h                                     # so long `shiftplane undo` is instant
"""
_ANALYSIS: Final = """\
  analysis:                          # proof takes it back, and only proof lets it go on
    metrics:
      - {name: success-rate}
      - {name: ttft-p99, maxRatio: 1.25}
"""


class _Address(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, _, port = str(value).strip().rpartition(":")
        if not host or not port.isdecimal():
            self.fail(f"{value!r} is not host:port, such as 10.0.0.1:8000 or vllm.prod.svc:8000", param, ctx)
        return str(value).strip()


@click.command()
@click.argument("name", default="chat")
@click.option("--group", default=None, help="Which Envoys. Default: the route's name.")
@click.option("--stable", type=_Address(), prompt="1/5 Where is the model that serves users now (host:port)")
@click.option("--candidate", type=_Address(), prompt="2/5 Where is the new one (host:port)")
@click.option(
    "--infrastructure/--model",
    prompt="3/5 Is it the same model on another engine, quantisation or machine",
    default=False,
    help="What changes.",
)
@click.option("--shadow/--no-shadow", default=None, help="Whether the new model answers copies first.")
@click.option("--metric", default=None, help="What users do that decides, such as purchase; empty for none.")
@click.option("--user-header", default="x-user-id", show_default=True, help="The header that says who asks.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: NAME.yaml."
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.pass_context
def init(  # noqa: PLR0913, PLR0917 - one parameter per option
    ctx: click.Context,
    name: str,
    group: str | None,
    stable: str,
    candidate: str,
    shadow: bool | None,  # noqa: FBT001 - None: not said yet
    metric: str | None,
    user_header: str,
    out: Path | None,
    *,
    infrastructure: bool,
    force: bool,
) -> None:
    """Answer five questions and get a spec with the strategy that fits; nothing is sent anywhere.

    The same model on other machines: blue-green. Judged by what users do: A/B test. Another model: canary,
    with a shadow before it if nobody knows yet how it answers.

    Example: shiftplane init chat --stable 10.0.0.1:8000 --candidate 10.0.0.2:8000
    """
    if not infrastructure:
        if shadow is None:
            shadow = click.confirm("4/5 Should it answer copies first, unseen by users", default=True)
        if metric is None and not shadow:
            asked = (
                "5/5 What do users do that decides, such as purchase (empty: nothing, errors and times do)"
            )
            metric = click.prompt(asked, default="", show_default=False)
    file = out or Path(f"{name}.yaml")
    if file.exists() and not force:
        raise click.ClickException(f"{file} is there already; --force writes over it, --out names another")
    what, text = _written(infrastructure=infrastructure, shadow=bool(shadow), metric=(metric or "").strip())
    head = _HEAD.format(
        what=what,
        file=file,
        name=name,
        group=group or name,
        stable=_place(stable),
        candidate=_place(candidate),
    )
    user = (
        "  attributes:\n    tester: {header: x-tester}\n"
        if infrastructure
        else _USER.format(header=user_header)
    )
    file.write_text(
        head + "  candidate: v2\n" * ("abTest" not in text) + user + "  strategy:\n" + text, encoding="utf-8"
    )
    if report(problems_of(read_specs([str(file)])), err=True):
        click.echo(f"{file} was written, and has to be mended as said above", err=True)
        ctx.exit(Exit.REFUSED)
    click.echo(
        f"{file}: {what}\nnext: shiftplane lint {file} && shiftplane plan {file} && shiftplane apply {file}"
    )


def _written(*, infrastructure: bool, shadow: bool, metric: str) -> tuple[str, str]:
    """Return what it is in words, and the strategy and analysis of the spec."""
    if infrastructure:
        return "Blue-green: everyone is switched at once, and back at once.", _BLUE_GREEN + _ANALYSIS
    if metric and not shadow:
        words = f"A/B test: half of the users each, judged by {metric} at the planned number of users."
        return words, _AB.format(metric=metric)
    if shadow:
        return "Shadow, then canary: copies first, then users step by step.", _SHADOW + _CANARY + _ANALYSIS
    return "Canary: users step by step.", _CANARY + _ANALYSIS


def _place(address: str) -> str:
    host = address.rpartition(":")[0].strip("[]")
    numeric = host.replace(".", "").isdecimal() or ":" in host
    return f'endpoints: ["{address}"]' if numeric else f'dns: "{address}"'
