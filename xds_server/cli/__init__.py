"""The command line interface. The module of a command is imported only when the command runs.

`shiftplane lint` must start fast and import neither grpc nor aiohttp nor envoy-data-plane; a test checks
this.
"""

from __future__ import annotations

import importlib
import os
from typing import Final

import click

__all__ = ["main"]

# Command → (module, function, one line of help). The help is repeated here so that listing the commands does
# not import their modules.
_COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "init": ("init", "init", "Create a route spec from up to five questions."),
    "demo": ("demo", "demo", "Run a complete rollout against a real Envoy on this machine."),
    "serve": ("serve", "serve", "Run the control plane."),
    "lint": ("lint", "lint", "Check route specs without a server."),
    "plan": ("plan", "plan", "Show the steps and Envoy resources of a spec without a server."),
    "diff": ("diff", "diff", "Compare a spec with the running one or with another file."),
    "apply": ("apply", "apply", "Apply route specs."),
    "delete": ("apply", "delete", "Delete routes."),
    "get": ("get", "get", "List routes."),
    "describe": ("get", "describe", "Show details of a route."),
    "status": (
        "status",
        "status",
        "Show the status of a rollout in one line; --wait waits until it ends or needs an operator.",
    ),
    "watch": ("watch", "watch", "Watch a rollout."),
    "promote": ("actions", "promote", "Promote a rollout to its next step."),
    "pause": ("actions", "pause", "Pause a rollout at its current weights."),
    "resume": ("actions", "resume", "Resume a paused rollout."),
    "abort": ("actions", "abort", "Abort a rollout and return all users to the stable backend."),
    "undo": ("actions", "undo", "Undo a rollout, or apply an earlier spec again."),
    "retry": ("actions", "retry", "Retry a rollout that ended without a promotion."),
    "kill": ("actions", "kill", "Send all users to one backend at once."),
    "unkill": ("actions", "unkill", "Turn the kill switch off."),
    "history": ("history", "history", "Show the history of a route."),
    "audit": ("audit", "audit", "Show, verify and export the audit log."),
    "assign": ("assign", "assign", "Show which variant serves a user."),
    "cost": ("cost", "cost", "Show requests, tokens and costs of a route by day."),
    "replay": ("replay", "replay", "Run an analysis on recorded evidence."),
    "samplesize": ("samplesize", "samplesize", "Calculate the sample size of an A/B test."),
    "notify": ("notify", "notify", "Test notification settings."),
    "proxies": ("proxies", "proxies", "List connected proxies and their sync status."),
    "login": ("config", "login", "Log in to a control plane with a token."),
    "logout": ("config", "logout", "Remove the stored token of a control plane."),
    "whoami": ("config", "whoami", "Show the current identity and its roles."),
    "token": ("token", "token", "Create, list and revoke tokens."),
    "config": ("config", "config", "Manage contexts, which are named control planes."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
    "bootstrap": ("bootstrap", "bootstrap", "Print an Envoy bootstrap configuration."),
}


class _LazyGroup(click.Group):
    """A command group that imports the module of a command on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"xds_server.cli.{module}"), function)
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong table is a bug, not an input
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            matches = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean {matches[0]!r}?" if matches else ""
            ctx.fail(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftplane")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Replace one LLM with another under live traffic.

    Example: shiftplane lint route.yaml && shiftplane apply route.yaml && shiftplane watch chat
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
