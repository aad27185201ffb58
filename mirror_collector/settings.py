"""The settings file: privacy of stored messages, access tokens, embedding, judge and sinks.

All settings are optional. If the file is invalid, the error lists every problem with its field.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mirror_collector.exchange.redaction import MASKED, Redaction, SecretKind
from mirror_collector.store import MessageStorage, PrivacyPolicy, RoutePrivacyPolicy
from mirror_collector.units import parse_duration

if TYPE_CHECKING:
    from mirror_collector.exchange.redaction import Mask

__all__ = ["AccessSettings", "Settings", "SettingsError", "TokenSettings", "load_settings", "read_text"]


class SettingsError(Exception):
    """The settings are invalid or incomplete; the message lists all problems, one per line."""


class _SettingsModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, alias_generator=None)


def _valid_json_path(text: str) -> str:
    """Return `text` if it is a valid JSONPath; raises ValueError otherwise."""
    _mask(text)
    return text


def _valid_digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("must be the SHA-256 of the token: 64 lowercase hexadecimal digits")
    return text


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


_Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
_JsonPath = Annotated[str, AfterValidator(_valid_json_path)]


class MessageSettings(_SettingsModel):
    """How messages are stored; a route that omits a setting uses the value for all routes."""

    store: Literal["none", "hashes", "bodies"] | None = None
    redact: tuple[Literal["email", "phone", "card", "secret", "bearer"], ...] | None = None
    masks: tuple[_JsonPath, ...] | None = None
    retention: _Seconds | None = None


class PrivacySettings(MessageSettings):
    """How messages are stored, for all routes and for single routes."""

    routes: dict[str, MessageSettings] = {}


class TokenSettings(_SettingsModel):
    """An access token: viewers read figures, readers also read messages, admins also delete data."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    sha256: Annotated[str, AfterValidator(_valid_digest)]
    role: Literal["viewer", "reader", "admin"]


class AccessSettings(_SettingsModel):
    """The access tokens; without tokens, every client has the role admin."""

    tokens: tuple[TokenSettings, ...] = ()


class EmbeddingSettings(_SettingsModel):
    """Comparison of answers by word embeddings."""

    enabled: bool = False


class PriceSettings(_SettingsModel):
    """Prices of the judge model per million tokens."""

    input_per_million: Annotated[float, Field(ge=0, alias="inputPerMillion")] = 0.0
    output_per_million: Annotated[float, Field(ge=0, alias="outputPerMillion")] = 0.0


class JudgeSettings(_SettingsModel):
    """A model that judges, for a sample of pairs, which answer is better."""

    url: str
    model: str
    api_key_file: Annotated[str | None, Field(alias="apiKeyFile")] = None
    sample: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Percentage of pairs."""

    per_minute: Annotated[float, Field(gt=0, le=100_000, alias="perMinute")] = 30.0
    cost_per_day: Annotated[float, Field(ge=0, alias="costPerDay")] = 5.0
    price: PriceSettings = PriceSettings()
    prompt_file: Annotated[str | None, Field(alias="promptFile")] = None


class OtlpSettings(_SettingsModel):
    """A sink that sends spans to an OpenTelemetry collector."""

    type: Literal["otlp"]
    url: str
    headers: dict[str, str] = {}
    bodies: bool = False


class LangfuseSettings(_SettingsModel):
    """A sink that sends traces and scores to Langfuse."""

    type: Literal["langfuse"]
    url: str
    public_key: Annotated[str, Field(alias="publicKey")]
    secret_key_file: Annotated[str, Field(alias="secretKeyFile")]
    bodies: bool = False


class Settings(_SettingsModel):
    """The settings file."""

    privacy: PrivacySettings = PrivacySettings()
    access: AccessSettings = AccessSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    judge: JudgeSettings | None = None
    sinks: tuple[Annotated[OtlpSettings | LangfuseSettings, Field(discriminator="type")], ...] = ()

    def privacy_policy(self) -> PrivacyPolicy:
        """Return the privacy policy of the store and the sinks."""
        common = self.privacy
        default = _route_policy(common, common)
        routes = {name: _route_policy(own, common) for name, own in common.routes.items()}
        return PrivacyPolicy(default=default, routes=routes)


def _route_policy(own: MessageSettings, common: MessageSettings) -> RoutePrivacyPolicy:
    def setting(name: str, default: Any) -> Any:
        for part in (own, common):
            if getattr(part, name) is not None:
                return getattr(part, name)
        return default

    return RoutePrivacyPolicy(
        storage=MessageStorage(setting("store", MessageStorage.BODIES.value)),
        redaction=Redaction(
            classes=frozenset(map(SecretKind, setting("redact", [kind.value for kind in SecretKind]))),
            masks=tuple(_mask(text) for text in setting("masks", ())),
        ),
        retention=setting("retention", None),
    )


def _mask(text: str) -> Mask:
    import jsonpath  # noqa: PLC0415 - only needed for masks

    try:
        compiled = jsonpath.compile(text)
    except jsonpath.JSONPathError as error:
        raise ValueError(f"{text!r} is not a valid JSONPath: {str(error).splitlines()[0]}") from error

    def mask(value: Any) -> None:
        for match in list(compiled.finditer(value)):
            holder: Any = None if match.parent is None else match.parent.obj
            if holder is not None:
                holder[match.parts[-1]] = MASKED

    return mask


_ROOT: Final = "settings"
_MESSAGES: Final = {
    "extra_forbidden": "unknown field",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "union_tag_not_found": "the field `type` is missing; it must be otlp or langfuse",
    "union_tag_invalid": "the field `type` must be otlp or langfuse",
}
"""Messages that replace those of pydantic, which name Python types."""


def load_settings(path: Path) -> Settings:
    """Read a settings file; raises SettingsError with all problems."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {_read_error(error)}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise SettingsError(f"{path}{place}: invalid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: invalid YAML: {' '.join(str(error).split())}") from error
    try:
        return Settings.model_validate({} if document is None else document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError("\n".join(f"{path}: {_describe(problem)}" for problem in problems)) from error


def _describe(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or _ROOT
    message = _MESSAGES.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]}"


def _read_error(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start})"
    return error.strerror or str(error)


def read_text(path: str) -> str:
    """Read a file the settings refer to, such as an API key; raises SettingsError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {_read_error(error)}") from error
