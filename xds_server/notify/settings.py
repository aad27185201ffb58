"""The file that says who is told of what: YAML → targets, or every problem at once with its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from xds_server.notify.model import KINDS, Format, Notifications, Secret, Target
from xds_server.notify.template import Template, TemplateError
from xds_server.spec import Finding, read_as
from xds_server.spec.scalars import Long, Name, Part, Plain, Url, text_value, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec import Problem

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
        raise wrong(f"no event is called {text!r}{hint}", _EVENTS)
    return text


def _words(value: object) -> Template:
    text = text_value(value, "the text of a template is allowed")
    try:
        return Template(text)
    except TemplateError as error:
        raise wrong(str(error), error.allowed) from error


_Glob = Annotated[str, BeforeValidator(_glob)]


class _Routes(Part):
    """Which routes: one of these names or globs, and all of these labels."""

    names: Annotated[tuple[Plain, ...], Field(strict=False, min_length=1)] = ("*",)
    labels: dict[str, str] = Field(default_factory=dict)


class _Target(Part):
    """Who is told, how, and of what."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Name
    type: Literal["slack", "webhook", "cloudevents"]
    url: Url | None = None
    url_file: Plain | None = None
    secret_file: Plain | None = None
    events: Annotated[
        tuple[Annotated[str, BeforeValidator(_glob)], ...], Field(strict=False, min_length=1)
    ] = ("*",)
    routes: _Routes = _Routes()
    template: Annotated[Template, BeforeValidator(_words)] | None = None
    max_age: Long = timedelta(hours=1)


class _Notifications(Part):
    """The whole file."""

    public_url: Url | None = None
    targets: Annotated[tuple[_Target, ...], Field(strict=False, min_length=1)]


def load_notifications(
    text: str, *, file: str, read: Read
) -> tuple[Notifications | None, tuple[Problem, ...]]:
    """Return what a file says, or None and everything that is wrong with it; `read` reads files it names."""
    built: list[Target] = []

    def meaning(values: dict[str, Any]) -> Iterator[Finding]:
        given = values.get("targets")
        names: dict[str, int] = {}
        for number, raw in enumerate(given if isinstance(given, list) else []):
            at = ("targets", number)
            try:
                target = _Target.model_validate(raw)
            except ValidationError:
                continue  # Its shape is wrong, which is said already.
            if target.name in names:
                where = f"the other is targets[{names[target.name]}]"
                yield Finding((*at, "name"), f"{target.name!r} is given twice", where)
            names.setdefault(target.name, number)
            yield from _fitting(at, target)
            url, url_findings = _url(at, target, read)
            secret, secret_findings = _secret(at, target, read)
            yield from (*url_findings, *secret_findings)
            if url is not None:
                built.append(_built(target, url, secret))

    model, problems = read_as(text, _Notifications, file=file, needed=_HEAD, meaning=meaning)
    if model is None or problems:
        return None, problems
    return Notifications(targets=tuple(built), public_url=model.public_url), problems


def _built(target: _Target, url: str, secret: str | None) -> Target:
    return Target(
        name=target.name,
        format=Format(target.type),
        url=Secret(url),
        secret=None if secret is None else Secret(secret),
        events=target.events,
        routes=target.routes.names,
        labels=target.routes.labels,
        template=target.template,
        max_age=target.max_age.total_seconds(),
    )


def _fitting(at: tuple[str | int, ...], target: _Target) -> Iterator[Finding]:
    if (target.url is None) == (target.url_file is None):
        said = "has no address" if target.url is None else "has both url and urlFile"
        yield Finding(at, said, "url, or urlFile where the address is a secret, is needed")
    if target.secret_file is not None and target.type == "slack":
        allowed = "the address is the secret there: put it into urlFile"
        yield Finding((*at, "secretFile"), "Slack checks no signature", allowed)


def _url(at: tuple[str | int, ...], target: _Target, read: Read) -> tuple[str | None, list[Finding]]:
    if target.url is not None or target.url_file is None:
        return target.url, []
    loc = (*at, "urlFile")
    found, wrong = _file(loc, target.url_file, read)
    if found is None:
        return None, wrong
    if not _is_url(found):
        # Without its words: they are a secret, even where they are wrong.
        return None, [Finding(loc, "the file holds no URL", "one line such as https://hooks.example.com/…")]
    return found, []


def _is_url(text: str) -> bool:
    try:
        _URL.validate_python(text)
    except ValidationError:
        return False
    return True


def _secret(at: tuple[str | int, ...], target: _Target, read: Read) -> tuple[str | None, list[Finding]]:
    if target.secret_file is None:
        return None, []
    return _file((*at, "secretFile"), target.secret_file, read)


def _file(loc: tuple[str | int, ...], name: str, read: Read) -> tuple[str | None, list[Finding]]:
    try:
        found = read(name).strip()
    except UnicodeDecodeError:
        return None, [Finding(loc, f"{name} is not UTF-8 text", "")]
    except OSError as error:
        return None, [
            Finding(loc, f"{name}: {error.strerror or 'cannot be read'}", "a file that can be read")
        ]
    return (found, []) if found else (None, [Finding(loc, f"{name} is empty", "")])
