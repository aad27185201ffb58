"""The settings file of the collector: what is kept of messages, who may read them, and the extras.

Everything in it is optional. All problems of a file are told at once, each with its place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mirror_collector.exchange.redaction import MASKED, Redaction, Secret
from mirror_collector.store import Keep, Privacy, RoutePrivacy
from mirror_collector.units import parse_duration

if TYPE_CHECKING:
    from mirror_collector.exchange.redaction import Mask

__all__ = ["AccessSettings", "Settings", "SettingsError", "TokenSettings", "load_settings", "read_text"]


class SettingsError(Exception):
    """The settings cannot be used; the message names every problem, one a line."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, alias_generator=None)


def _path(text: str) -> str:
    """Check a JSONPath by compiling it."""
    _mask(text)
    return text


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("must be the SHA-256 of the token, 64 hexadecimal digits")
    return text


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


_Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
_JsonPath = Annotated[str, AfterValidator(_path)]


class KeptSettings(_Part):
    """What is kept of messages; what a route does not say is as for all."""

    store: Literal["none", "hashes", "bodies"] | None = None
    redact: tuple[Literal["email", "phone", "card", "secret", "bearer"], ...] | None = None
    masks: tuple[_JsonPath, ...] | None = None
    retention: _Seconds | None = None


class PrivacySettings(KeptSettings):
    """What is kept of the messages of all routes, and of single ones."""

    routes: dict[str, KeptSettings] = {}


class TokenSettings(_Part):
    """Who may come in: a viewer sees figures, a reader messages too, an admin may delete."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    sha256: Annotated[str, AfterValidator(_digest)]
    role: Literal["viewer", "reader", "admin"]


class AccessSettings(_Part):
    """Who may come in; without tokens everybody who reaches the address may do everything."""

    tokens: tuple[TokenSettings, ...] = ()


class EmbeddingSettings(_Part):
    """Whether answers are compared by a static embedding as well."""

    enabled: bool = False


class PriceSettings(_Part):
    """What a judge costs, per million tokens."""

    input_per_million: Annotated[float, Field(ge=0, alias="inputPerMillion")] = 0.0
    output_per_million: Annotated[float, Field(ge=0, alias="outputPerMillion")] = 0.0


class JudgeSettings(_Part):
    """A model that is asked which of two answers is better, in both orders, for a sample of pairs."""

    url: str
    model: str
    api_key_file: Annotated[str | None, Field(alias="apiKeyFile")] = None
    sample: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Percent of pairs."""

    per_minute: Annotated[float, Field(gt=0, le=100_000, alias="perMinute")] = 30.0
    cost_per_day: Annotated[float, Field(ge=0, alias="costPerDay")] = 5.0
    price: PriceSettings = PriceSettings()
    prompt_file: Annotated[str | None, Field(alias="promptFile")] = None


class OtlpSettings(_Part):
    """Spans to an OpenTelemetry collector."""

    type: Literal["otlp"]
    url: str
    headers: dict[str, str] = {}
    bodies: bool = False


class LangfuseSettings(_Part):
    """Traces and scores to Langfuse."""

    type: Literal["langfuse"]
    url: str
    public_key: Annotated[str, Field(alias="publicKey")]
    secret_key_file: Annotated[str, Field(alias="secretKeyFile")]
    bodies: bool = False


class Settings(_Part):
    """All of the file."""

    privacy: PrivacySettings = PrivacySettings()
    access: AccessSettings = AccessSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    judge: JudgeSettings | None = None
    sinks: tuple[Annotated[OtlpSettings | LangfuseSettings, Field(discriminator="type")], ...] = ()

    def kept(self) -> Privacy:
        """Return what the store goes by."""
        common = self.privacy
        default = _kept(common, common)
        routes = {name: _kept(one, common) for name, one in common.routes.items()}
        return Privacy(default=default, routes=routes)


def _kept(one: KeptSettings, common: KeptSettings) -> RoutePrivacy:
    def said(name: str, usual: Any) -> Any:
        for part in (one, common):
            if getattr(part, name) is not None:
                return getattr(part, name)
        return usual

    return RoutePrivacy(
        keep=Keep(said("store", Keep.BODIES.value)),
        redaction=Redaction(
            classes=frozenset(Secret(name) for name in said("redact", [kind.value for kind in Secret])),
            masks=tuple(_mask(text) for text in said("masks", ())),
        ),
        retention=said("retention", None),
    )


def _mask(text: str) -> Mask:
    import jsonpath  # noqa: PLC0415 - only where masks are asked for

    try:
        compiled = jsonpath.compile(text)
    except jsonpath.JSONPathError as error:
        raise ValueError(f"{text!r} is no JSONPath: {str(error).splitlines()[0]}") from error

    def mask(value: Any) -> None:
        for match in list(compiled.finditer(value)):
            holder: Any = None if match.parent is None else match.parent.obj
            if holder is not None:
                holder[match.parts[-1]] = MASKED

    return mask


_TOP: Final = "settings"


def load_settings(path: Path) -> Settings:
    """Read a settings file; raises SettingsError with every problem."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    try:
        return Settings.model_validate({} if document is None else document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError("\n".join(f"{path}: {_told(one)}" for one in found)) from error


def _told(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or _TOP
    words = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown"
    return f"{place}: {words[:1].lower()}{words[1:]}"


def read_text(path: str) -> str:
    """Read a file the settings refer to, such as an API key; raises SettingsError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
