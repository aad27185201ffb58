"""The JSON bodies of requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from xds_server.access.identity import (
    TOKEN_LIFETIME_SECONDS,
    TOKEN_NAME_PATTERN,
    Grant,
    Role,
    SelectorError,
    parse_selector,
)
from xds_server.web.problems import ProblemError

__all__ = ["CommandBody", "PromoteBody", "TokenBody", "UndoBody"]

_DAY = 86_400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CommandBody(_Body):
    """The body of a command request: the reason, and the user on whose behalf a program sends the command."""

    reason: Annotated[str, Field(max_length=2_000)] = ""
    actor: Annotated[str, Field(max_length=200)] = ""


class PromoteBody(CommandBody):
    """The body of a promote request; `full` advances to the last weight step."""

    full: bool = False


class UndoBody(CommandBody):
    """The body of an undo request; `to` selects an earlier generation, whose spec is applied again."""

    to: Annotated[int, Field(ge=1, le=2**53)] | None = None


class TokenBody(_Body):
    """A token to create: its name, its role over routes, and its lifetime in seconds."""

    name: Annotated[str, Field(pattern=TOKEN_NAME_PATTERN)]
    role: Annotated[str, Field(pattern="^(viewer|operator|admin)$")]
    routes: Annotated[str, Field(max_length=400)] = ""
    """A label selector for the routes, such as team=search; empty selects all routes."""

    expires_in: Annotated[int, Field(ge=TOKEN_LIFETIME_SECONDS[0], le=TOKEN_LIFETIME_SECONDS[1])] = 90 * _DAY

    @property
    def grant(self) -> Grant:
        """The grant of the token.

        Raises:
            ProblemError: `routes` is not a label selector.
        """
        try:
            labels = parse_selector(self.routes)
        except SelectorError as error:
            raise ProblemError(400, "bad_request", f"routes: {error}") from error
        return Grant(role=Role[self.role.upper()], labels=labels)
