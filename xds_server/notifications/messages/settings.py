"""The file that says who is told of what: YAML → targets, or every problem at once with its place."""

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
from xds_server.spec import Finding, read_as
from xds_server.spec.scalars import DurationMin1s, Name, ShortText, SpecModel, Url, text_value, value_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xds_server.spec import Problem
    from xds_server.spec.document import Loc

__all__ = ["load_notifications"]

_HEAD: Final = "a mapping with targets: [{name, type, url or urlFile}] is needed"
_EVENTS: Final = f"allowed: {', '.join(sorted(KINDS))}, and * in them"
_URL: Final[TypeAdapter[str]] = TypeAdapter(Url)

Read = Callable[[str], str]
"""The name of a file as it stands in the settings → its text; raises OSError."""


def _glob(value: object) -> str:
    text = text_value(value, _EVENTS)
    if not any(fnmatchcase(kind, text) for kind in KINDS):
        near = difflib.get_close_matches(text, KINDS, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise value_error(f"no event is called {text!r}{hint}", _EVENTS)
    return text


def _words(value: object) -> Template:
    text = text_value(value, "the text of a template is allowed")
    try:
        return Template(text)
    except TemplateError as error:
        raise value_error(str(error), error.allowed) from error


def _address(value: object) -> str:
    """Take a URL; what is none is not said again, as it may be most of a secret."""
    allowed = "a URL such as https://hooks.example.com/in is allowed"
    text = text_value(value, allowed)
    if not _is_url(text):
        raise value_error("is not a URL", allowed)
    return text


_Glob = Annotated[str, BeforeValidator(_glob)]


class _Routes(SpecModel):
    """Which routes: one of these names or globs, and all of these labels."""

    names: Annotated[tuple[ShortText, ...], Field(strict=False, min_length=1)] = ("*",)
    labels: dict[str, str] = Field(default_factory=dict)


class _Target(SpecModel):
    """Who is told, how, and of what."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Name
    type: Literal["slack", "webhook", "cloudevents"]
    url: Annotated[str, BeforeValidator(_address)] | None = None
    url_file: ShortText | None = None
    secret_file: ShortText | None = None
    events: Annotated[
        tuple[Annotated[str, BeforeValidator(_glob)], ...], Field(strict=False, min_length=1)
    ] = ("*",)
    routes: _Routes = _Routes()
    template: Annotated[Template, BeforeValidator(_words)] | None = None
    max_age: DurationMin1s = timedelta(hours=1)


class _Notifications(SpecModel):
    """The whole file."""

    public_url: Url | None = None
    targets: Annotated[tuple[_Target, ...], Field(strict=False, min_length=1)]


def load_notifications(
    text: str, *, file: str, read: Read
) -> tuple[Notifications | None, tuple[Problem, ...]]:
    """Return what a file says, or None and everything that is wrong with it; `read` reads files it names."""
    files: dict[Loc, str] = {}

    def check(values: dict[str, Any]) -> Iterator[Finding]:
        names: dict[str, int] = {}
        for number, target in _mappings(values.get("targets")):
            at, name = ("targets", number), target.get("name")
            if isinstance(name, str) and names.setdefault(name, number) != number:
                where = f"the other is targets[{names[name]}]"
                yield Finding((*at, "name"), f"{name!r} is given twice", where)
            yield from _fitting(at, target)
            for key in ("urlFile", "secretFile"):
                if isinstance(target.get(key), str):
                    found = _content((*at, key), target[key], read)
                    if isinstance(found, Finding):
                        yield found
                    else:
                        files[*at, key] = found

    model, problems = read_as(text, _Notifications, file=file, expected=_HEAD, check=check)
    if model is None or problems:
        return None, problems
    targets = tuple(_built(target, number, files) for number, target in enumerate(model.targets))
    return Notifications(targets=targets, public_url=model.public_url), problems


def _mappings(values: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in enumerate(values if isinstance(values, list) else []):
        if isinstance(value, dict):
            yield number, value


def _built(target: _Target, number: int, files: Mapping[Loc, str]) -> Target:
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


def _fitting(at: Loc, target: Mapping[str, Any]) -> Iterator[Finding]:
    if ("url" in target) == ("urlFile" in target):
        said = "has both url and urlFile" if "url" in target else "has no address"
        yield Finding(at, said, "url, or urlFile where the address is a secret, is needed")
    if "secretFile" in target and target.get("type") == Format.SLACK.value:
        allowed = "the address is the secret there: put it into urlFile"
        yield Finding((*at, "secretFile"), "Slack checks no signature", allowed)


def _content(loc: Loc, name: str, read: Read) -> str | Finding:
    """Return what a file holds, or what is wrong with it; never with its words, which are a secret."""
    try:
        found = read(name).strip()
    except UnicodeDecodeError:
        return Finding(loc, f"{name} is not UTF-8 text", "")
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "cannot be read"
        return Finding(loc, f"{name}: {words}", "a file that can be read is needed")
    if not found:
        return Finding(loc, f"{name} is empty", "")
    if loc[-1] == "urlFile" and not _is_url(found):
        return Finding(loc, f"{name} holds no URL", "one line such as https://hooks.example.com/… is needed")
    return found


def _is_url(text: str) -> bool:
    try:
        return urlsplit(_URL.validate_python(text)).port != 0
    except ValueError:  # Neither a URL, nor one with a port that exists.
        return False
