"""The command line: one file per verb, imported only when its verb is used.

`shiftplane lint` must start fast and load neither grpc nor aiohttp nor envoy-data-plane; a test holds that.
"""

from __future__ import annotations

import importlib
import os
from typing import Final

import click

__all__ = ["main"]

# verb → (module, function, one line of help). Help for the list comes from here, so that listing the verbs
# does not import them.
_VERBS: Final[dict[str, tuple[str, str, str]]] = {
    "init": ("init", "init", "Answer five questions and get a spec."),
    "demo": ("demo", "demo", "Watch one model replace another behind a real Envoy."),
    "serve": ("serve", "serve", "Run the control plane."),
    "lint": ("lint", "lint", "Check route specs; needs no server."),
    "plan": ("plan", "plan", "Say what proxies would be told; needs no server."),
    "diff": ("diff", "diff", "Say what a changed spec would change."),
    "apply": ("apply", "apply", "Hand route specs to the control plane."),
    "delete": ("apply", "delete", "Take a route out of the control plane."),
    "get": ("get", "get", "List routes."),
    "describe": ("get", "describe", "Show all there is to know of one route."),
    "status": ("status", "status", "Say in one line how a rollout stands; --wait for pipelines."),
    "watch": ("watch", "watch", "Watch a rollout live."),
    "promote": ("actions", "promote", "Go on to the next step of a rollout."),
    "pause": ("actions", "pause", "Stop the clock of a rollout."),
    "resume": ("actions", "resume", "Let the clock of a paused rollout go on."),
    "abort": ("actions", "abort", "Take a rollout back to the stable backend."),
    "undo": ("actions", "undo", "Take back what a rollout did, or go back to an earlier spec."),
    "retry": ("actions", "retry", "Begin a rollout that was taken back anew."),
    "kill": ("actions", "kill", "Have one backend serve everyone, at once."),
    "unkill": ("actions", "unkill", "Take a kill back."),
    "history": ("history", "history", "Say what happened to a route."),
    "audit": ("audit", "audit", "Say who did what and why, and check that nobody tampered with it."),
    "assign": ("assign", "assign", "Say which variant a user gets."),
    "cost": ("cost", "cost", "Say what each model of a route took and cost, by day."),
    "replay": ("replay", "replay", "Say what an analysis would have decided of what was recorded."),
    "samplesize": ("samplesize", "samplesize", "Say how many users an A/B test takes."),
    "notify": ("notify", "notify", "Try out who is told of what happens to routes."),
    "proxies": ("proxies", "proxies", "List connected proxies and what they hold."),
    "login": ("config", "login", "Keep a token for a control plane."),
    "logout": ("config", "logout", "Forget the token for a control plane."),
    "whoami": ("config", "whoami", "Say who one is at the control plane."),
    "token": ("token", "token", "Make, list and end tokens."),
    "config": ("config", "config", "Keep names for control planes, and choose one."),
    "completion": ("completion", "completion", "Print the completion script of a shell."),
    "bootstrap": ("bootstrap", "bootstrap", "Print the file an Envoy starts with."),
}


class _Verbs(click.Group):
    """Subcommands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module, function, _ = _VERBS[cmd_name]
        command = getattr(importlib.import_module(f"xds_server.cli.{module}"), function)
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong table is a bug, not an input
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _VERBS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shiftplane")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Replace one LLM by another under live traffic, safely.

    Example: shiftplane lint route.yaml && shiftplane apply route.yaml && shiftplane watch chat
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
