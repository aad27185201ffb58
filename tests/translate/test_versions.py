"""Configurations per Envoy version: the same, except for what an old version does not support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any as AnyMessage

from tests.support.envoy import inline, validate
from tests.support.envoy_versions import WHEELS, binary
from tests.support.goldens import Case, cases, resources_of
from xds_server import ir
from xds_server.ir.versions import (
    OLDEST_ENVOY,
    OPTIONAL_EXTENSIONS,
    missing_features,
    served_as,
    supported_by,
    too_old,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES = cases()
VERSIONS = range(OLDEST_ENVOY, ir.NEWEST_ENVOY + 1)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_version = pytest.mark.parametrize("minor", VERSIONS)
LARGE = 64 << 20


@pytest.mark.parametrize(
    ("version", "minor", "old"),
    [
        ("1.40.0", 40, False),
        ("1.38.3", 38, False),
        ("1.36.0", 36, False),
        ("1.37", 37, False),
        ("1.35.9", 36, True),
        ("1.9.1", 36, True),
        ("1.41.0", 40, False),
        ("2.0.0", 40, False),
        ("0.0.0", 40, False),
        ("", 40, False),
        ("1.x.0", 40, False),
        ("1.36.0-dev", 40, False),
        ("1.\u0663\u0666.0", 40, False),
        ("1." + "9" * 5000, 40, False),
    ],
)
def test_the_reported_version_selects_the_served_version(version: str, minor: int, old: bool) -> None:
    assert (served_as(version), too_old(version)) == (minor, old)


def test_missing_features_are_listed_for_operators() -> None:
    assert missing_features("1.40.0") == missing_features("1.38.2") == missing_features("0.0.0") == ()
    assert missing_features("1.37.0") == (
        "before Envoy 1.38, proxies report no token statistics of streamed responses",
    )
    assert missing_features("1.36.4") == (
        "before Envoy 1.37, a client that reads slowly can occupy up to 64 MiB of proxy memory",
        "before Envoy 1.37, proxies report no request statistics",
        "before Envoy 1.38, proxies report no token statistics of streamed responses",
    )
    assert missing_features("1.20.0") == (
        "unsupported Envoy version: the proxy receives the configuration for Envoy 1.36",
        *missing_features("1.36.4"),
    )


@each
@each_version
def test_versions_differ_only_in_optional_features(case: Case, minor: int) -> None:
    newest, found = resources_of(case), resources_of(case, envoy=minor)
    for config in (newest, found):
        counts = [without_statistics(listener) for listener in config["Listener"].values()]
        loggers = 0 if config is found and minor < 37 else 15
        filters = 2 if config is newest or minor >= 38 else max(0, minor - 36)
        assert counts == [(loggers, filters)] * 2
    if minor == 36:
        for listener in found["Listener"].values():
            assert listener.pop("per_connection_buffer_limit_bytes") == LARGE
        manager = found["Listener"]["entry"]["filter_chains"][0]["filters"][0]["typed_config"]
        assert set(manager.pop("http2_protocol_options").values()) == {LARGE}
    assert found == newest


def without_statistics(listener: dict[str, Any]) -> tuple[int, int]:
    """Remove the request statistics, and return the number of removed loggers and filters."""
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    logs, filters = manager.pop("access_log", []), manager["http_filters"]
    manager["access_log"] = [log for log in logs if log["name"] != "envoy.access_loggers.stats"]
    manager["http_filters"] = [f for f in filters if not f["name"].startswith("shiftplane.usage.")]
    return len(logs) - len(manager["access_log"]), len(filters) - len(manager["http_filters"])


def test_listeners_do_not_depend_on_routes() -> None:
    # Token issuers are part of the listener; nothing else of a spec is.
    cases = [case for case in CASES if "jwtProviders" not in case.text]
    listeners = [resources_of(case, envoy=36)["Listener"] for case in cases]
    assert all(one == listeners[0] for one in listeners), "a listener that changes drains its connections"


@each_version
def test_optional_extensions_are_omitted_for_old_versions(minor: int) -> None:
    filters = [
        HttpFilter(name=url, typed_config=AnyMessage(type_url=url, value=b""))
        for url in (
            *(f"type.googleapis.com/{extension.message}" for extension in OPTIONAL_EXTENSIONS),
            "type.googleapis.com/x",
        )
    ]
    filters.append(HttpFilter(name="bare"))
    left_out = {
        f"type.googleapis.com/{extension.message}"
        for extension in OPTIONAL_EXTENSIONS
        if extension.since > minor
    }
    assert [f.name for f in supported_by(minor, filters)] == [
        f.name for f in filters if f.name not in left_out
    ]


def test_every_optional_extension_is_used() -> None:
    sent = {url for case in CASES for url in types(resources_of(case))}
    for extension in OPTIONAL_EXTENSIONS:
        assert f"type.googleapis.com/{extension.message}" in sent, extension.message


def types(value: Any) -> Iterator[str]:
    """Yield the type of every extension in a rendered configuration."""
    if isinstance(value, dict):
        if "@type" in value:
            yield value["@type"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from types(item)


@pytest.mark.versions
@each
@each_version
def test_every_version_accepts_its_configuration(case: Case, minor: int, tmp_path: Path) -> None:
    assert validate(inline(resources_of(case, envoy=minor)), tmp_path, binary(minor)) == ""


@pytest.mark.versions
@each_version
@pytest.mark.parametrize(
    "extension", OPTIONAL_EXTENSIONS, ids=lambda extension: extension.message.split(".")[3]
)
def test_extensions_exist_since_their_listed_version(extension: Any, minor: int, tmp_path: Path) -> None:
    # An empty configuration may be rejected as well, but for another reason.
    config = inline(resources_of(CASES[0], envoy=minor))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    kind = "access_log" if "access_loggers" in extension.message else "http_filters"
    added = {"name": "added", "typed_config": {"@type": f"type.googleapis.com/{extension.message}"}}
    manager[kind] = [added, *manager.get(kind, [])]
    output = validate(config, tmp_path, binary(minor))
    assert ("could not find @type" in output or "no such field" in output.lower()) == (
        minor < extension.since
    ), output


@pytest.mark.versions
def test_an_envoy_binary_exists_for_every_version() -> None:
    assert tuple(WHEELS) == tuple(VERSIONS)
