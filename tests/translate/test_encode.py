"""Our encoder against the library's own, over random messages of many classes."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, OutlierDetection
from envoy_data_plane.envoy.config.core.v3 import Address, Metadata, Node
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, LbEndpoint
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, Route, RouteAction, WeightedCluster
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua, LuaPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManager
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import configs
from xds_server.translate.encode import encode, pack
from xds_server.xds.snapshot import changes

if TYPE_CHECKING:
    import betterproto2

_INT = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "sint32": st.integers(-(2**31), 2**31 - 1),
    "sint64": st.integers(-(2**63), 2**63 - 1),
    "fixed32": st.integers(0, 2**32 - 1),
    "fixed64": st.integers(0, 2**64 - 1),
    "sfixed32": st.integers(-(2**31), 2**31 - 1),
    "sfixed64": st.integers(-(2**63), 2**63 - 1),
}
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    **_INT,
    "bool": st.booleans(),
    "string": st.text(max_size=200),
    "bytes": st.binary(max_size=20),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
}


def value_of(field: Any, cls: type, draw: st.DrawFn, depth: int) -> Any:
    if field.proto_type in _PLAIN:
        return draw(_PLAIN[field.proto_type])
    if field.proto_type == "enum":
        return draw(st.sampled_from(list(cls)))  # type: ignore[call-overload]
    if field.unwrap is not None or cls in {timedelta, bool, int, float, str, bytes}:
        if cls is timedelta:
            return timedelta(microseconds=draw(st.integers(0, 10**12)))
        kind = {bool: "bool", int: "uint32", float: "double", str: "string", bytes: "bytes"}.get(cls)
        return None if kind is None else draw(_PLAIN[kind])
    return draw(messages(cls, depth - 1)) if depth > 0 else None


@st.composite
def messages(draw: st.DrawFn, cls: type[betterproto2.Message], depth: int = 3) -> betterproto2.Message:
    meta: Any = cls._betterproto  # type: ignore[arg-type]
    fields = sorted(meta.meta_by_field_name)
    names = draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)) if fields else []
    chosen: dict[str, Any] = {}
    groups: set[str] = set()
    for name in names:
        field = meta.meta_by_field_name[name]
        if field.group is not None and field.group in groups:
            continue
        value: Any
        if field.map_meta is not None:
            value = draw_map(draw, field, meta.cls_by_field[f"{name}.value"], depth)
        elif field.repeated:
            count = draw(st.integers(0, 3))
            values = [value_of(field, meta.cls_by_field[name], draw, depth) for _ in range(count)]
            value = [item for item in values if item is not None]
        else:
            value = value_of(field, meta.cls_by_field[name], draw, depth)
        if value is not None:
            groups |= {field.group} if field.group is not None else set()
            chosen[name] = value
    return cls(**chosen)


def draw_map(draw: st.DrawFn, field: Any, value_cls: type, depth: int) -> dict[Any, Any]:
    keys = draw(st.lists(_PLAIN[field.map_meta[0].proto_type], max_size=3, unique=True))
    values = {key: value_of(field.map_meta[1], value_cls, draw, depth) for key in keys}
    return {key: values[key] for key in sorted(values) if values[key] is not None}


CLASSES = [
    Address, AnyMessage, Cluster, ClusterLoadAssignment, HeaderMatcher, HttpConnectionManager, LbEndpoint,
    Listener, Lua, LuaPerRoute, Metadata, Node, OutlierDetection, Route, RouteAction, Struct, Value,
    WeightedCluster,
]  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_the_encoding_equals_that_of_the_library(
    cls: type[betterproto2.Message], data: st.DataObject
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        message = data.draw(messages(cls))
        assert encode(message) == bytes(message)


def test_map_entries_are_sorted() -> None:
    ascending = Struct.from_dict({"a": 1, "b": 2})
    descending = Struct.from_dict({"b": 2, "a": 1})
    assert encode(ascending) == encode(descending) == bytes(ascending)


def test_zero_is_encoded_for_fields_with_presence() -> None:
    assert encode(OutlierDetection(consecutive_5xx=0)) == bytes(OutlierDetection(consecutive_5xx=0)) != b""


def test_unknown_fields_are_preserved() -> None:
    raw = encode(Lua(stat_prefix="x")) + b"\x9a\x3e\x03new"
    assert encode(Lua.parse(raw)) == raw


def test_pack_names_the_type() -> None:
    packed = pack(Lua(stat_prefix="x"))
    assert packed.type_url == "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    assert Lua.parse(packed.value).stat_prefix == "x"


def test_equal_configurations_give_equal_bytes() -> None:
    one, other = (configs.snapshot(configs.group(shadow=True)) for _ in range(2))
    assert one.version == other.version
    assert changes(one, other) == {}
    assert configs.snapshot(configs.group(500)).version != configs.snapshot(configs.group(501)).version
