"""`shiftplane init`: create a route spec, with a strategy selected by five questions.

| change | strategy |
|---|---|
| infrastructure: another engine, quantization or machine for the same model | blue-green |
| a model that is evaluated by what users do, such as a purchase | A/B test |
| another model | canary |
| another model, tested with copied requests before it serves users | a shadow before the canary |
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from xds_server.cli.client import Exit
from xds_server.cli.specs import problems_of, read_specs, report

__all__ = ["init"]

_HEAD: Final = """\
# {summary}
# Check: shiftplane lint {file}   Preview: shiftplane plan {file}   Start: shiftplane apply {file}
apiVersion: shiftplane.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  proxies: {{group: {group}}}       # Envoys whose bootstrap was created with --group {group}
  match: {{path: {{prefix: /v1/}}}}
  backends:
    - {{name: v1, {stable}}}
    - {{name: v2, {candidate}}}
  stable: v1
"""
_USER: Final = "  attributes:\n    user.id: {{header: {header}}}   # keeps a user on the same variant\n"
_SHADOW: Final = """\
    shadow:
      percentage: 20
      maxTokensPerSecond: 2000       # token rate limit of copies
      compare: {noiseBaseline: {percentage: 25}}   # measures how much stable differs from itself
      promotion: {next: canary, minPairs: 200}     # requires the verdict Equivalent
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
      primaryMetric:                 # replace both numbers; shiftplane samplesize calculates the users
        {{name: {metric}, column: Good, baseline: 0.10, minimumDetectableEffect: {{absolute: 0.02}}}}
      maxDuration: 14d
"""
_BLUE_GREEN: Final = """\
    blueGreen:
      previewMatch: [{attribute: tester, op: exists}]   # requests with x-tester preview the candidate
      keepWarm: 72h                                     # how long v1 must keep running for `shiftplane undo`
"""
_ANALYSIS: Final = """\
  analysis:                          # verdict Fail: rolls back; verdict Pass: the rollout proceeds
    metrics:
      - {name: success-rate}
      - {name: ttft-p99, maxRatio: 1.25}
"""


class _Address(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, _, port = str(value).strip().rpartition(":")
        if not host or not port.isdecimal():
            self.fail(
                f"{value!r} is not host:port; expected an address such as 10.0.0.1:8000 or "
                "vllm.prod.svc:8000",
                param,
                ctx,
            )
        return str(value).strip()


@click.command()
@click.argument("name", default="chat")
@click.option("--group", default=None, help="Group of the proxies. Default: the name of the route.")
@click.option(
    "--stable",
    type=_Address(),
    prompt="1/5 Address of the stable backend (host:port)",
    help="Address of the stable backend.",
)
@click.option(
    "--candidate",
    type=_Address(),
    prompt="2/5 Address of the candidate (host:port)",
    help="Address of the candidate.",
)
@click.option(
    "--infrastructure/--model",
    prompt="3/5 Is the candidate the same model on another engine, quantization or machine",
    default=False,
    help="--infrastructure: the same model on another engine or machine (blue-green). "
    "--model: another model (canary or A/B test).",
)
@click.option(
    "--shadow/--no-shadow",
    default=None,
    help="Whether to test the candidate with copied requests before the canary (with --model).",
)
@click.option(
    "--metric",
    default=None,
    help="Metric of user behavior that decides an A/B test, such as purchase. Empty: no A/B test. "
    "Used only with --model and --no-shadow.",
)
@click.option(
    "--user-header", default="x-user-id", show_default=True, help="Header that identifies the user."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to write. Default: NAME.yaml.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_context
def init(  # noqa: PLR0913, PLR0917 - one parameter per option
    ctx: click.Context,
    name: str,
    group: str | None,
    stable: str,
    candidate: str,
    shadow: bool | None,  # noqa: FBT001 - None: not answered yet
    metric: str | None,
    user_header: str,
    out: Path | None,
    *,
    infrastructure: bool,
    force: bool,
) -> None:
    """Create a route spec from five questions, without a server.

    The answers select the strategy: blue-green for the same model on another infrastructure, an A/B test for
    a metric of user behavior, and otherwise a canary, optionally with a shadow before it.

    Example: shiftplane init chat --stable 10.0.0.1:8000 --candidate 10.0.0.2:8000
    """
    if not infrastructure:
        if shadow is None:
            shadow = click.confirm("4/5 Test the candidate with copied requests first", default=True)
        if metric is None and not shadow:
            question = (
                "5/5 Metric of user behavior that decides an A/B test, such as purchase (empty: no A/B test)"
            )
            metric = click.prompt(question, default="", show_default=False)
    file = out or Path(f"{name}.yaml")
    if file.exists() and not force:
        raise click.ClickException(
            f"{file} exists; overwrite it with --force, or select another file with --out"
        )
    summary, text = _strategy(
        infrastructure=infrastructure, shadow=bool(shadow), metric=(metric or "").strip()
    )
    head = _HEAD.format(
        summary=summary,
        file=file,
        name=name,
        group=group or name,
        stable=_address_field(stable),
        candidate=_address_field(candidate),
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
        click.echo(f"{file} was written but has the problems listed above", err=True)
        ctx.exit(Exit.FAILED)
    click.echo(
        f"{file}: {summary}\n"
        f"next: shiftplane lint {file} && shiftplane plan {file} && shiftplane apply {file}"
    )


def _strategy(*, infrastructure: bool, shadow: bool, metric: str) -> tuple[str, str]:
    """Return a summary, and the text of the strategy and analysis of the spec."""
    if infrastructure:
        return "Blue-green: all users are switched at once, and back at once.", _BLUE_GREEN + _ANALYSIS
    if metric and not shadow:
        summary = f"A/B test: half of the users on each backend; {metric} decides at the planned sample size."
        return summary, _AB.format(metric=metric)
    if shadow:
        return (
            "Shadow, then canary: the candidate receives copied requests first, then users step by step.",
            _SHADOW + _CANARY + _ANALYSIS,
        )
    return "Canary: users move to the candidate step by step.", _CANARY + _ANALYSIS


def _address_field(address: str) -> str:
    host = address.rpartition(":")[0].strip("[]")
    numeric = host.replace(".", "").isdecimal() or ":" in host
    return f'endpoints: ["{address}"]' if numeric else f'dns: "{address}"'
