"""`shiftplane lint`: report all problems of route specs with their positions, without a server."""

from __future__ import annotations

import click

from xds_server.cli.client import Exit, output_option
from xds_server.cli.out import print_data
from xds_server.cli.specs import problems_of, read_specs, report

__all__ = ["lint"]


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@output_option
@click.pass_context
def lint(ctx: click.Context, paths: tuple[str, ...], output: str, *, strict: bool) -> None:
    """Check route specs in files, folders, or standard input (-).

    Exit code: 0 if the specs can be applied, 1 otherwise.

    Example: shiftplane lint specs/
    """
    loaded = read_specs(paths)
    problems = problems_of(loaded)
    errors = sum(problem.severity.name == "ERROR" for problem in problems)
    routes = sum(len(one.routes) for one in loaded)
    if output != "table":
        listed = [
            {
                "severity": problem.severity.name.lower(),
                "file": problem.file,
                "line": problem.line,
                "col": problem.col,
                "path": problem.path,
                "message": problem.message,
                "allowed": problem.allowed,
            }
            for problem in problems
        ]
        print_data({"routes": routes, "errors": errors, "problems": listed}, output)
    else:
        report(problems, err=False)
        warnings = len(problems) - errors
        counted = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        click.echo(
            counted
            if errors
            else f"{counted} in {routes} route{'s' * (routes != 1)}"
            if problems
            else _no_problems(routes),
            err=True,
        )
    if errors or (strict and problems):
        ctx.exit(Exit.FAILED)


def _no_problems(routes: int) -> str:
    return f"{routes} route{'s' * (routes != 1)} checked, no problems"
