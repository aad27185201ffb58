"""The single values of a spec, each with its own words for what is wrong with it.

Durations become timedeltas, sizes bytes, percentages and weights basis points (0..10000).
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
    "Alpha",
    "Amount",
    "BackendName",
    "CaptureSize",
    "Claim",
    "Concurrency",
    "Dns",
    "Duration",
    "Endpoint",
    "EndpointText",
    "Fraction",
    "GrowthFactor",
    "HeaderName",
    "Host",
    "Long",
    "Name",
    "PairCount",
    "Part",
    "Path",
    "Percent",
    "Plain",
    "Prose",
    "Ratio",
    "RequestSize",
    "Retries",
    "RouteName",
    "Samples",
    "Share",
    "Short",
    "Threshold",
    "Tokens",
    "Url",
    "text_value",
    "wrong",
]

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = "lower-case letters, digits and dashes are allowed, at most 63, such as chat-v2"
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MOST_REQUEST: Final = 64 << 20
_LEAST_CAPTURE: Final = 1 << 10
_MOST_CAPTURE: Final = 1 << 20
_MOST_PROSE: Final = 32 << 10
_CLAIM: Final = re.compile(r"[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+)*")
_URL: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?")


def wrong(message: str, allowed: str) -> PydanticCustomError:
    """Return what to raise for a value: what is wrong with it, and what is allowed."""
    return PydanticCustomError("shiftplane", "{message}", {"message": message, "allowed": allowed})


def _unit(read: Any, value: object) -> Any:
    try:
        return read(value)
    except units.UnitError as error:
        raise wrong(str(error), error.allowed) from error


def text_value(value: object, what: str) -> str:
    """Return a value that is text, or say that it is none."""
    if not isinstance(value, str):
        raise wrong(f"must be text, found {_kind(value)}", what)
    return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}; put it in quotes if it is meant as text"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return repr(value)


def _name(value: object) -> str:
    text = text_value(value, _NAME)
    if not _LABEL.fullmatch(text):
        raise wrong(f"{text!r} is not a name", _NAME)
    return text


def _unlike(taken: str, value: object) -> str:
    """Refuse the one name that would make a cluster's name mean two things."""
    text = _name(value)
    if text == taken:
        raise wrong(f"{text!r} is reserved", "any other name is allowed")
    return text


def _header(value: object) -> str:
    allowed = "a header name such as x-user-id is allowed"
    text = text_value(value, allowed).lower()
    if text.startswith(":"):
        raise wrong(f"{text!r} is a pseudo-header", allowed)
    if not _TOKEN.fullmatch(text):
        raise wrong(f"{text!r} is not a header name", allowed)
    if text.startswith("x-shiftplane-"):
        raise wrong(f"{text!r} is reserved: proxies strip x-shiftplane-* from what clients send", allowed)
    return text


def _host(value: object) -> str:
    allowed = '"*", a name such as chat.example.com, or *.example.com are allowed'
    text = text_value(value, allowed).lower()
    if text == "*":
        return text
    if ":" in text:
        raise wrong(f"{text!r} has a port; ports do not matter for matching", allowed)
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise wrong(f"{text!r} is not a host", allowed)
    return text


def _path(value: object) -> str:
    allowed = "a path such as /v1/ is allowed"
    text = text_value(value, allowed)
    if not text.startswith("/"):
        raise wrong(f"{text!r} does not start with /", allowed)
    if re.search(r"[?#\s]", text):
        raise wrong(f"{text!r} holds a query, a fragment or a space", allowed)
    return text


def _plain(value: object) -> str:
    allowed = "text without control characters is allowed"
    text = text_value(value, allowed)
    if not text or len(text) > 256 or not text.isprintable():
        raise wrong(f"{text[:40]!r} is empty, too long or not printable", allowed)
    return text


def _prose(value: object) -> str:
    allowed = "text of at most 32 KiB is allowed"
    text = text_value(value, allowed)
    if not text.strip():
        raise wrong("is empty", allowed)
    if len(text.encode()) > _MOST_PROSE or "\0" in text:
        raise wrong("is longer than 32 KiB, or holds a zero byte", allowed)
    return text


def _claim(value: object) -> str:
    allowed = "the name of a claim is allowed, such as org_id or realm.org; dots lead into nested claims"
    text = text_value(value, allowed)
    if len(text) > 128 or not _CLAIM.fullmatch(text):
        raise wrong(f"{text[:40]!r} is not a claim", allowed)
    return text


def _url(value: object) -> str:
    allowed = "a URL is allowed, such as https://id.example.com/keys.json"
    text = text_value(value, allowed)
    if len(text) > 512 or not _URL.fullmatch(text):
        raise wrong(f"{text[:60]!r} is not a URL", allowed)
    return text


def _factor(value: object) -> int:
    found: int = _unit(units.basis_points, value)
    if found < 100:
        raise wrong(f"{value} is too small", "a percentage from 1 to 100 is allowed")
    return found


def _endpoint(value: object) -> Any:
    allowed = 'an IP address with its port is allowed, such as "10.0.0.1:8000" or "[::1]:8000"'
    host, port = _host_port(value, allowed)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise wrong(f"{host!r} is not an IP address", "names belong in dns: instead of endpoints:") from None
    if address.is_unspecified or address.is_multicast:
        raise wrong(f"{host!r} is not the address of a server", allowed)
    return {"host": host, "port": port}


def _dns(value: object) -> Any:
    allowed = 'a name with its port is allowed, such as "vllm-v1.prod.svc:8000"'
    host, port = _host_port(value, allowed)
    if len(host) > 253 or not _HOST.fullmatch(host.lower()) or host.startswith("*"):
        raise wrong(f"{host!r} is not a host name", allowed)
    if re.fullmatch(r"[0-9.]+", host):
        raise wrong(f"{host!r} is an address", "addresses belong in endpoints: instead of dns:")
    return {"host": host, "port": port}


def _host_port(value: object, allowed: str) -> tuple[str, int]:
    if isinstance(value, Endpoint):
        return value.host, value.port
    text = text_value(value, allowed)
    if "://" in text:
        raise wrong(f"{text!r} is a URL", allowed)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal():
        raise wrong(f"{text!r} has no port", allowed)
    if not 1 <= int(port) <= 65_535:
        raise wrong(f"port {port} does not exist", "ports from 1 to 65535 are allowed")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise wrong(f"{text!r} needs brackets around its address", allowed)
    return host, int(port)


def _at_least(least: timedelta, value: object) -> timedelta:
    found: timedelta = _unit(units.duration, value)
    if found < least:
        raise wrong(f"{value!r} is too short", f"at least {least.total_seconds():g}s is allowed")
    return found


def _number(least: float, most: float, value: object) -> float:
    allowed = f"a number from {least:,.10g} to {most:,.10g} is allowed"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a number, found {_kind(value)}", allowed)
    if not least <= value <= most:
        raise wrong(f"{value} is out of range", allowed)
    return float(value)


def _count(least: int, most: int, value: object) -> int:
    allowed = f"a whole number from {least} to {most} is allowed"
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f"must be a whole number, found {_kind(value)}", allowed)
    if not least <= value <= most:
        raise wrong(f"{value} is out of range", allowed)
    return value


def _size(least: int, most: int, words: str, value: object) -> int:
    found: int = _unit(units.size, value)
    if not least <= found <= most:
        raise wrong(f"{value!r} is out of range", words)
    return found


def _share(value: object) -> int:
    found: int = _unit(units.basis_points, value)
    if found == 0:
        raise wrong("0 is no share at all", "a percentage above 0 is allowed")
    return found


class Part(BaseModel):
    """A part of a spec: frozen, and strict about what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=False, strict=True
    )


class Endpoint(Part):
    """An address and a port."""

    host: str
    port: int

    @model_serializer(when_used="json")
    def _text(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Name = Annotated[str, BeforeValidator(_name)]
RouteName = Annotated[str, BeforeValidator(lambda value: _unlike("shiftplane", value))]
BackendName = Annotated[str, BeforeValidator(lambda value: _unlike("hop", value))]
Plain = Annotated[str, BeforeValidator(_plain)]
HeaderName = Annotated[str, BeforeValidator(_header)]
Host = Annotated[str, BeforeValidator(_host)]
Path = Annotated[str, BeforeValidator(_path)]
# In JSON, values are written as they may be read again: "1h30m", "32MiB", 12.5.
_AS_PERCENT = PlainSerializer(units.percent_number, when_used="json")
_AS_DURATION = PlainSerializer(units.duration_text, when_used="json")
_AS_SIZE = PlainSerializer(units.size_text, when_used="json")

Percent = Annotated[int, BeforeValidator(lambda value: _unit(units.basis_points, value)), _AS_PERCENT]
Share = Annotated[int, BeforeValidator(_share), _AS_PERCENT]
Duration = Annotated[timedelta, BeforeValidator(lambda value: _unit(units.duration, value)), _AS_DURATION]
Long = Annotated[
    timedelta, BeforeValidator(lambda value: _at_least(timedelta(seconds=1), value)), _AS_DURATION
]
Short = Annotated[
    timedelta, BeforeValidator(lambda value: _at_least(timedelta(milliseconds=10), value)), _AS_DURATION
]
RequestSize = Annotated[
    int,
    BeforeValidator(lambda value: _size(1 << 10, _MOST_REQUEST, "1KiB to 64MiB are allowed", value)),
    _AS_SIZE,
]
CaptureSize = Annotated[
    int,
    BeforeValidator(lambda value: _size(_LEAST_CAPTURE, _MOST_CAPTURE, "1KiB to 1MiB are allowed", value)),
    _AS_SIZE,
]
Concurrency = Annotated[int, BeforeValidator(lambda value: _count(1, 4_096, value))]
Threshold = Annotated[int, BeforeValidator(lambda value: _count(1, 1_000, value))]
Retries = Annotated[int, BeforeValidator(lambda value: _count(0, 5, value))]
GrowthFactor = Annotated[int, BeforeValidator(_factor), _AS_PERCENT]
Prose = Annotated[str, BeforeValidator(_prose)]
Claim = Annotated[str, BeforeValidator(_claim)]
Url = Annotated[str, BeforeValidator(_url)]
Samples = Annotated[int, BeforeValidator(lambda value: _count(0, 1_000_000, value))]
Ratio = Annotated[float, BeforeValidator(lambda value: _number(1, 100, value))]
Fraction = Annotated[float, BeforeValidator(lambda value: _number(0, 1, value))]
Alpha = Annotated[float, BeforeValidator(lambda value: _number(0.0001, 0.5, value))]
Amount = Annotated[float, BeforeValidator(lambda value: _number(0, 1_000_000, value))]
PairCount = Annotated[int, BeforeValidator(lambda value: _count(1, 1_000_000, value))]
Tokens = Annotated[int, BeforeValidator(lambda value: _count(1, 100_000_000, value))]
EndpointText = Annotated[Endpoint, BeforeValidator(_endpoint)]
Dns = Annotated[Endpoint, BeforeValidator(_dns)]
