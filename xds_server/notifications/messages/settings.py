"""Load the notification settings (YAML) and report every problem with its position."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from xds_server.notifications.messages.model import KINDS, Format, Notifications, Secret, Target
from xds_server.notifications.messages.template import Template, TemplateError
from xds_server.spec import Finding, read_as, referenced_content
from xds_server.spec.scalars import DurationMin1s, Name, ShortText, SpecModel, Url, text_value, value_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xds_server.spec import Problem
    from xds_server.spec.document import Loc

__all__ = ["load_notifications"]

_EXPECTED: Final = "expected a mapping with targets: [{name, type, url or urlFile}]"
_EVENTS: Final = f"allowed: {', '.join(sorted(KINDS))}, and patterns with *"
_URL: Final[TypeAdapter[str]] = TypeAdapter(Url)

Read = Callable[[str], str]
"""A function that returns the text of a file that the settings name; raises OSError or ValueError."""


def _glob(value: object) -> str:
    text = text_value(value, _EVENTS)
    if not any(fnmatchcase(kind, text) for kind in KINDS):
        near = difflib.get_close_matches(text, KINDS, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise value_error(f"unknown event {text!r}{hint}", _EVENTS)
    return text


def _template(value: object) -> Template:
    text = text_value(value, "allowed: the text of a template")
    try:
        return Template(text)
    except TemplateError as error:
        raise value_error(str(error), error.allowed) from error


def _target_url(value: object) -> str:
    """Return a URL; the error does not repeat a wrong value, as it may contain a secret."""
    allowed = "allowed: a URL such as https://hooks.example.com/in"
    text = text_value(value, allowed)
    if not _is_url(text):
        raise value_error("is not a URL", allowed)
    return text


_Glob = Annotated[str, BeforeValidator(_glob)]


class _Routes(SpecModel):
    """Selects routes whose name matches one of the globs and that have all of the labels."""

    names: Annotated[tuple[ShortText, ...], Field(strict=False, min_length=1)] = ("*",)
    labels: dict[str, str] = Field(default_factory=dict)


class _Target(SpecModel):
    """A target, its format, and the events it receives."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Name
    type: Literal["slack", "webhook", "cloudevents"]
    url: Annotated[str, BeforeValidator(_target_url)] | None = None
    url_file: ShortText | None = None
    secret_file: ShortText | None = None
    events: Annotated[
        tuple[Annotated[str, BeforeValidator(_glob)], ...], Field(strict=False, min_length=1)
    ] = ("*",)
    routes: _Routes = _Routes()
    template: Annotated[Template, BeforeValidator(_template)] | None = None
    max_age: DurationMin1s = timedelta(hours=1)


class _Notifications(SpecModel):
    """The whole file."""

    public_url: Url | None = None
    targets: Annotated[tuple[_Target, ...], Field(strict=False, min_length=1)]


def load_notifications(
    text: str, *, file: str, read: Read
) -> tuple[Notifications | None, tuple[Problem, ...]]:
    """Return the settings, or None and all problems; `read` returns the text of a file the settings name."""
    files: dict[Loc, str] = {}

    def check(values: dict[str, Any]) -> Iterator[Finding]:
        names: dict[str, int] = {}
        for number, target in _mappings(values.get("targets")):
            at, name = ("targets", number), target.get("name")
            if isinstance(name, str) and names.setdefault(name, number) != number:
                where = f"it is already the name of targets[{names[name]}]"
                yield Finding((*at, "name"), f"duplicate name {name!r}", where)
            yield from _check_target(at, target)
            for key in ("urlFile", "secretFile"):
                if isinstance(target.get(key), str):
                    found = _file_content((*at, key), target[key], read)
                    if isinstance(found, Finding):
                        yield found
                    else:
                        files[*at, key] = found

    model, problems = read_as(text, _Notifications, file=file, expected=_EXPECTED, check=check)
    if model is None or problems:
        return None, problems
    targets = tuple(_to_target(target, number, files) for number, target in enumerate(model.targets))
    return Notifications(targets=targets, public_url=model.public_url), problems


def _mappings(values: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in enumerate(values if isinstance(values, list) else []):
        if isinstance(value, dict):
            yield number, value


def _to_target(target: _Target, number: int, files: Mapping[Loc, str]) -> Target:
    secret = files.get(("targets", number, "secretFile"))
    return Target(
        name=target.name,
        format=Format(target.type),
        url=Secret(target.url or files["targets", number, "urlFile"]),
        secret=None if secret is None else Secret(secret),
        events=target.events,
        routes=target.routes.names,
        labels=target.routes.labels,
        template=target.template,
        max_age=target.max_age.total_seconds(),
    )


def _check_target(at: Loc, target: Mapping[str, Any]) -> Iterator[Finding]:
    if ("url" in target) == ("urlFile" in target):
        message = "has both url and urlFile" if "url" in target else "has neither url nor urlFile"
        yield Finding(at, message, "set one of them; urlFile keeps a secret URL out of this file")
    if "secretFile" in target and target.get("type") == Format.SLACK.value:
        allowed = "remove secretFile; the URL is the secret of Slack: set it with urlFile"
        yield Finding((*at, "secretFile"), "Slack does not check signatures", allowed)


def _file_content(loc: Loc, name: str, read: Read) -> str | Finding:
    """Return the content of a file with a secret or a URL, or a finding about it."""
    found = referenced_content(loc, name, read)
    if isinstance(found, Finding):
        return found
    if loc[-1] == "urlFile" and not _is_url(found):
        return Finding(
            loc, f"{name} contains no URL", "expected one line such as https://hooks.example.com/…"
        )
    return found


def _is_url(text: str) -> bool:
    try:
        return urlsplit(_URL.validate_python(text)).port != 0
    except ValueError:  # The text is not a URL, or its port is out of range.
        return False
