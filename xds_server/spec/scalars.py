"""Types of the single values of a spec, each with its own error messages.

Durations become timedeltas, sizes become bytes, percentages and weights become basis points (0..10000).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_serializer
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from xds_server.spec import units

__all__ = [
    "YAML_WORDS",
    "Alpha",
    "Amount",
    "BackendName",
    "CaptureSize",
    "Claim",
    "Concurrency",
    "Dns",
    "Duration",
    "DurationMin1s",
    "DurationMin10ms",
    "Endpoint",
    "EndpointText",
    "Fraction",
    "GrowthFactor",
    "HeaderName",
    "Host",
    "LongText",
    "Name",
    "PairCount",
    "Path",
    "Percent",
    "Ratio",
    "RequestSize",
    "RetryCount",
    "RouteName",
    "SampleCount",
    "Share",
    "ShortText",
    "SpecModel",
    "Threshold",
    "Tokens",
    "Url",
    "text_value",
    "value_error",
]

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = (
    "expected 1 to 63 lower-case letters, digits and dashes, with a letter or digit at both ends, "
    "such as chat-v2"
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_REQUEST: Final = 64 << 20
_MIN_CAPTURE: Final = 1 << 10
_MAX_CAPTURE: Final = 1 << 20
_MAX_TEXT: Final = 32 << 10
_CLAIM: Final = re.compile(r"[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+)*")
_URL: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?")

YAML_WORDS: Final = ", because many YAML tools read an unquoted on, off, yes or no as true or false"
"""The end of a message about a boolean where text is expected."""


def value_error(message: str, allowed: str) -> PydanticCustomError:
    """Return the error to raise for a value: what is wrong with it, and what is allowed."""
    return PydanticCustomError("shiftplane", "{message}", {"message": message, "allowed": allowed})


def _unit(read: Any, value: object) -> Any:
    try:
        return read(value)
    except units.UnitError as error:
        raise value_error(str(error), error.allowed) from error


def text_value(value: object, allowed: str) -> str:
    """Return `value` if it is text; raise an error that states `allowed` otherwise."""
    if not isinstance(value, str):
        hint = "; quote it to make it text" if isinstance(value, int | float) else ""
        hint += YAML_WORDS if isinstance(value, bool) else ""
        raise value_error(f"must be text, found {_kind(value)}{hint}", allowed)
    return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return repr(value)


def _name(value: object) -> str:
    text = text_value(value, _NAME)
    if not _LABEL.fullmatch(text):
        raise value_error(f"{text!r} is not a valid name", _NAME)
    return text


def _name_except(reserved: str, value: object) -> str:
    """Return a valid name; reject `reserved`, which would make cluster names ambiguous."""
    text = _name(value)
    if text == reserved:
        raise value_error(
            f"the name {text!r} is reserved: names of internal clusters contain it", "use another name"
        )
    return text


def _header(value: object) -> str:
    allowed = "expected a header name such as x-user-id"
    text = text_value(value, allowed).lower()
    if text.startswith(":"):
        raise value_error(f"{text!r} is a pseudo-header", allowed)
    if not _TOKEN.fullmatch(text):
        raise value_error(f"{text!r} is not a header name", allowed)
    if text.startswith("x-shiftplane-"):
        raise value_error(
            f"{text!r} is reserved: proxies strip x-shiftplane-* headers from client requests", allowed
        )
    return text


def _host(value: object) -> str:
    allowed = 'expected "*", a host name such as chat.example.com, or *.example.com'
    text = text_value(value, allowed).lower()
    if text == "*":
        return text
    if ":" in text:
        message = f"{text!r} contains a port, but hosts match requests to every port"
        raise value_error(message, f"remove the port; {allowed}")
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise value_error(f"{text!r} is not a valid host", allowed)
    return text


def _path(value: object) -> str:
    allowed = "expected a path such as /v1/"
    text = text_value(value, allowed)
    if not text.startswith("/"):
        raise value_error(f"{text!r} does not begin with /", allowed)
    if re.search(r"[?#\s]", text):
        raise value_error(f"{text!r} contains a query, a fragment or white space", allowed)
    return text


def _short_text(value: object) -> str:
    allowed = "expected 1 to 256 printable characters"
    text = text_value(value, allowed)
    if not text or len(text) > 256 or not text.isprintable():
        raise value_error(f"{text[:40]!r} is empty, too long or not printable", allowed)
    return text


def _long_text(value: object) -> str:
    allowed = "expected text of at most 32 KiB"
    text = text_value(value, allowed)
    if not text.strip():
        raise value_error("is empty", allowed)
    if len(text.encode()) > _MAX_TEXT or "\0" in text:
        raise value_error("is longer than 32 KiB or contains a NUL byte", allowed)
    return text


def _claim(value: object) -> str:
    allowed = "expected the name of a claim, such as org_id or realm.org; dots select nested claims"
    text = text_value(value, allowed)
    if len(text) > 128 or not _CLAIM.fullmatch(text):
        raise value_error(f"{text[:40]!r} is not a valid claim name", allowed)
    return text


def _url(value: object) -> str:
    allowed = "expected an http or https URL, such as https://id.example.com"
    text = text_value(value, allowed)
    if len(text) > 512 or not _URL.fullmatch(text):
        raise value_error(f"{text[:60]!r} is not a valid URL", allowed)
    return text


def _factor(value: object) -> int:
    parsed: int = _unit(units.basis_points, value)
    if parsed < 100:
        raise value_error(f"{value} is too small", "expected a percentage from 1 to 100")
    return parsed


def _endpoint(value: object) -> Any:
    allowed = 'expected an IP address and a port, such as "10.0.0.1:8000" or "[::1]:8000"'
    host, port = _host_port(value, allowed)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise value_error(
            f"{host!r} is not an IP address", f"{allowed}; put a host name into dns: instead of endpoints:"
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise value_error(f"{host!r} cannot be the address of a server", allowed)
    return {"host": host, "port": port}


def _dns(value: object) -> Any:
    allowed = 'expected a host name and a port, such as "vllm-v1.prod.svc:8000"'
    host, port = _host_port(value, allowed)
    if len(host) > 253 or not _HOST.fullmatch(host.lower()) or host.startswith("*"):
        raise value_error(f"{host!r} is not a valid host name", allowed)
    if re.fullmatch(r"[0-9.]+", host):
        raise value_error(f"{host!r} is an IP address", "put IP addresses into endpoints: instead of dns:")
    return {"host": host, "port": port}


def _host_port(value: object, allowed: str) -> tuple[str, int]:
    if isinstance(value, Endpoint):
        return value.host, value.port
    text = text_value(value, allowed)
    if "://" in text:
        raise value_error(f"{text!r} is a URL", allowed)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal():
        raise value_error(f"{text!r} has no port number", allowed)
    if not 1 <= int(port) <= 65_535:
        raise value_error(f"port {port} is out of range", "expected a port from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        problem = "is an IPv6 address without brackets" if _is_address(host) else "has more than one colon"
        raise value_error(f"{text!r} {problem}", allowed)
    return host, int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _at_least(minimum: timedelta, value: object) -> timedelta:
    parsed: timedelta = _unit(units.duration, value)
    if parsed < minimum:
        raise value_error(f"{value!r} is too short", f"expected at least {units.duration_text(minimum)}")
    return parsed


def _number(minimum: float, maximum: float, value: object) -> float:
    allowed = f"expected a number from {minimum:,.10g} to {maximum:,.10g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise value_error(f"must be a number, found {_kind(value)}", allowed)
    if not minimum <= value <= maximum:
        raise value_error(f"{value} is out of range", allowed)
    return float(value)


def _count(minimum: int, maximum: int, value: object) -> int:
    allowed = f"expected a whole number from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise value_error(f"must be a whole number, found {_kind(value)}", allowed)
    if not minimum <= value <= maximum:
        raise value_error(f"{value} is out of range", allowed)
    return value


def _size(minimum: int, maximum: int, allowed: str, value: object) -> int:
    parsed: int = _unit(units.size, value)
    if not minimum <= parsed <= maximum:
        raise value_error(f"{value!r} is out of range", allowed)
    return parsed


def _share(value: object) -> int:
    parsed: int = _unit(units.basis_points, value)
    if parsed == 0:
        raise value_error("0 is too small", "expected a percentage above 0")
    return parsed


class SpecModel(BaseModel):
    """Base class of all mappings of a spec: frozen, and unknown fields are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=True
    )


class Endpoint(SpecModel):
    """A host and a port."""

    host: str
    port: int

    @model_serializer(when_used="json")
    def _text(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Name = Annotated[str, BeforeValidator(_name)]
RouteName = Annotated[str, BeforeValidator(lambda value: _name_except("shiftplane", value))]
BackendName = Annotated[str, BeforeValidator(lambda value: _name_except("hop", value))]
ShortText = Annotated[str, BeforeValidator(_short_text)]
HeaderName = Annotated[str, BeforeValidator(_header)]
Host = Annotated[str, BeforeValidator(_host)]
Path = Annotated[str, BeforeValidator(_path)]
# JSON output uses the notation of the YAML: "1h30m", "32MiB", 12.5.
_AS_PERCENT = PlainSerializer(units.percent_number, when_used="json")
_AS_DURATION = PlainSerializer(units.duration_text, when_used="json")
_AS_SIZE = PlainSerializer(units.size_text, when_used="json")

Percent = Annotated[int, BeforeValidator(lambda value: _unit(units.basis_points, value)), _AS_PERCENT]
Share = Annotated[int, BeforeValidator(_share), _AS_PERCENT]
Duration = Annotated[timedelta, BeforeValidator(lambda value: _unit(units.duration, value)), _AS_DURATION]
DurationMin1s = Annotated[
    timedelta, BeforeValidator(lambda value: _at_least(timedelta(seconds=1), value)), _AS_DURATION
]
DurationMin10ms = Annotated[
    timedelta, BeforeValidator(lambda value: _at_least(timedelta(milliseconds=10), value)), _AS_DURATION
]
RequestSize = Annotated[
    int,
    BeforeValidator(lambda value: _size(1 << 10, _MAX_REQUEST, "expected a size from 1KiB to 64MiB", value)),
    _AS_SIZE,
]
CaptureSize = Annotated[
    int,
    BeforeValidator(
        lambda value: _size(_MIN_CAPTURE, _MAX_CAPTURE, "expected a size from 1KiB to 1MiB", value)
    ),
    _AS_SIZE,
]
Concurrency = Annotated[int, BeforeValidator(lambda value: _count(1, 4_096, value))]
Threshold = Annotated[int, BeforeValidator(lambda value: _count(1, 1_000, value))]
RetryCount = Annotated[int, BeforeValidator(lambda value: _count(0, 5, value))]
GrowthFactor = Annotated[int, BeforeValidator(_factor), _AS_PERCENT]
LongText = Annotated[str, BeforeValidator(_long_text)]
Claim = Annotated[str, BeforeValidator(_claim)]
Url = Annotated[str, BeforeValidator(_url)]
SampleCount = Annotated[int, BeforeValidator(lambda value: _count(0, 1_000_000, value))]
Ratio = Annotated[float, BeforeValidator(lambda value: _number(1, 100, value))]
Fraction = Annotated[float, BeforeValidator(lambda value: _number(0, 1, value))]
Alpha = Annotated[float, BeforeValidator(lambda value: _number(0.0001, 0.5, value))]
Amount = Annotated[float, BeforeValidator(lambda value: _number(0, 1_000_000, value))]
PairCount = Annotated[int, BeforeValidator(lambda value: _count(1, 1_000_000, value))]
Tokens = Annotated[int, BeforeValidator(lambda value: _count(1, 100_000_000, value))]
EndpointText = Annotated[Endpoint, BeforeValidator(_endpoint)]
Dns = Annotated[Endpoint, BeforeValidator(_dns)]
