"""`shiftplane apply` and `shiftplane delete`: specs to and from the control plane."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, ApiError, Exit, output_option, server_option
from xds_server.cli.out import print_data
from xds_server.cli.specs import problems_of, read_specs, report

__all__ = ["apply", "delete"]


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Let the control plane check it, and change nothing.")
@click.option("--reason", "-m", default="", help="Why; kept in the history.")
@server_option
@output_option
@click.pass_context
def apply(
    ctx: click.Context, paths: tuple[str, ...], reason: str, server: str, output: str, *, dry_run: bool
) -> None:
    """Hand route specs to the control plane: files, folders, or - for standard input.

    Everything is checked before anything is sent; a refused spec changes nothing.
    Example: shiftplane apply chat.yaml
    """
    loaded = read_specs(paths)
    if report(problems_of(loaded), err=True):
        click.echo("nothing was applied", err=True)
        ctx.exit(Exit.REFUSED)
    text = "\n---\n".join(document.text for one in loaded for document in one.documents)
    file = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    try:
        answer = Api(server).post_spec(text, file, dry_run=dry_run, reason=reason)
    except ApiError as error:
        for problem in error.body.get("problems", []):
            click.echo(_said(problem), err=True)
        if not error.body.get("problems"):
            raise
        click.echo("nothing was applied", err=True)
        ctx.exit(Exit.REFUSED)
    if output != "table":
        print_data(answer, output)
        return
    for item in answer["applied"]:
        note = " (dry run)" if dry_run else ""
        click.echo(f"route {item['name']} {item['action']}{note}")


def _said(problem: dict[str, Any]) -> str:
    """Return a problem in the words `lint` would use."""
    from xds_server.spec import Problem, Severity

    return str(Problem(**{**problem, "severity": Severity[problem["severity"].upper()]}))


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--reason", "-m", default="", help="Why; kept in the audit.")
@server_option
def delete(names: tuple[str, ...], reason: str, server: str, *, yes: bool) -> None:
    """Take routes out of the control plane: their proxies answer 404 for them afterwards.

    Example: shiftplane delete chat -m "it is served elsewhere now"
    """
    api = Api(server)
    for name in names:
        view = api.get(f"/v1/routes/{quote(name)}")
        if not yes:
            held = view["convergence"]["connected"]
            click.confirm(f"{held} connected proxies will answer 404 for route {name}. Go on?", abort=True)
        api.delete(f"/v1/routes/{quote(name)}", reason=reason)
        click.echo(f"route {name} deleted")
