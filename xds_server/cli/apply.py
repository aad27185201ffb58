"""`shiftplane apply` and `shiftplane delete`: add, change and remove routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xds_server.cli.client import Api, ApiError, Exit, output_option, server_option
from xds_server.cli.out import print_data
from xds_server.cli.specs import problems_of, read_specs, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xds_server.spec import Loaded

__all__ = ["apply", "delete"]


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--dry-run", is_flag=True, help="Validate the specs on the control plane without applying them."
)
@click.option("--reason", "-m", default="", help="Reason for the change, recorded in the audit log.")
@server_option
@output_option
@click.pass_context
def apply(
    ctx: click.Context, paths: tuple[str, ...], reason: str, server: str, output: str, *, dry_run: bool
) -> None:
    """Apply route specs from files, folders, or standard input (-).

    All specs are checked before they are sent. If one is rejected, none is applied.

    Example: shiftplane apply chat.yaml
    """
    loaded = read_specs(paths)
    if report(problems_of(loaded), err=True):
        click.echo("nothing was applied", err=True)
        ctx.exit(Exit.FAILED)
    text = "\n---\n".join(document.text for one in loaded for document in one.documents)
    others = len(paths) - 1
    file = paths[0] if not others else f"{paths[0]} and {others} other path{'s' * (others != 1)}"
    try:
        response = Api(server).post_spec(text, file, dry_run=dry_run, reason=reason)
    except ApiError as error:
        for problem in error.body.get("problems", []):
            click.echo(_problem_text({**problem, **_origin(problem["line"], loaded)}), err=True)
        if not error.body.get("problems"):
            raise
        click.echo("nothing was applied", err=True)
        ctx.exit(Exit.FAILED)
    if output != "table":
        print_data(response, output)
        return
    for item in response["applied"]:
        note = " (dry run)" if dry_run else ""
        click.echo(f"route {item['name']} {item['action']}{note}")


def _origin(line: int, loaded: Sequence[Loaded]) -> dict[str, Any]:
    """Return the file and line from which a line of the sent text was read; empty if it was in no file."""
    begin = 1
    for document in (document for one in loaded for document in one.documents):
        length = document.text.count("\n")
        if begin <= line < begin + length:
            route, _, strategy = document.text.partition("\n---\n")
            # `Document.text` ends with a copy of the DeploymentStrategy that the route refers to, if any. Its
            # lines do not follow the route in the file, so a problem in it is reported at the first line of
            # the route.
            inside = not strategy or line <= begin + route.count("\n")
            return {"file": document.file, "line": document.line + (line - begin if inside else 0)}
        begin += length + 2
    return {}


def _problem_text(problem: dict[str, Any]) -> str:
    """Return a problem in the format of `lint`."""
    from xds_server.spec import Problem, Severity

    return str(Problem(**{**problem, "severity": Severity[problem["severity"].upper()]}))


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Skip the confirmation.")
@click.option("--reason", "-m", default="", help="Reason for the deletion, recorded in the audit log.")
@server_option
def delete(names: tuple[str, ...], reason: str, server: str, *, yes: bool) -> None:
    """Delete routes. Proxies then respond with 404 to requests that no other route matches.

    Example: shiftplane delete chat -m "replaced by route chat-large"
    """
    api = Api(server)
    for name in names:
        view = api.get(f"/v1/routes/{quote(name)}")
        if not yes:
            proxies = view["convergence"]["connected"]
            click.confirm(
                f"Connected proxies of group {view['group']}: {proxies}. They will respond with 404 to "
                f"requests that only route {name} matches. Delete the route?",
                abort=True,
            )
        api.delete(f"/v1/routes/{quote(name)}", reason=reason)
        click.echo(f"route {name} deleted")
