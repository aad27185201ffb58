"""What bodies of requests look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from xds_server.access.identity import LIVES, NAMES, Grant, Role, SelectorError, parse_selector
from xds_server.web.problems import ProblemError

__all__ = ["CommandBody", "PromoteBody", "TokenBody", "UndoBody"]

_DAY = 86_400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CommandBody(_Body):
    """Why, and who is at the keyboard; that is noted beside who showed the token."""

    reason: Annotated[str, Field(max_length=2_000)] = ""
    actor: Annotated[str, Field(max_length=200)] = ""


class PromoteBody(CommandBody):
    """With `full`, straight to the last weight."""

    full: bool = False


class UndoBody(CommandBody):
    """With `to`, the spec of that generation once more."""

    to: Annotated[int, Field(ge=1, le=2**53)] | None = None


class TokenBody(_Body):
    """A token to be made: whose it is, what it may do with which routes, and for how many seconds."""

    name: Annotated[str, Field(pattern=NAMES)]
    role: Annotated[str, Field(pattern="^(viewer|operator|admin)$")]
    routes: Annotated[str, Field(max_length=400)] = ""
    """The labels of the routes it is for, such as team=search; empty: of all."""

    expires_in: Annotated[int, Field(ge=LIVES[0], le=LIVES[1])] = 90 * _DAY

    @property
    def grant(self) -> Grant:
        """What it lets its owner do.

        Raises:
            ProblemError: The labels are none.
        """
        try:
            labels = parse_selector(self.routes)
        except SelectorError as error:
            raise ProblemError(400, "bad_request", f"routes: {error}") from error
        return Grant(role=Role[self.role.upper()], labels=labels)
