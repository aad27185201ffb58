"""envoy-data-plane messages → bytes, with an encoding plan compiled once per message class (pure).

The library's own `bytes(message)` rebuilds a validator for every message on every call, which costs a third
of a second for a hundred routes. This encoder writes the same bytes (a property test compares the two),
except that map entries are sorted by key, so that equal values give equal bytes. It validates nothing:
messages are validated when they are built.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.message_pool import default_message_pool

if TYPE_CHECKING:
    import betterproto2

__all__ = ["encode", "encode_any", "pack", "repeated", "type_url"]

type_url_of: Final[Mapping[type, str]] = default_message_pool.type_to_url

Writer = Callable[[Any], bytes]

_VARINT = frozenset({"enum", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64"})
_FIXED: Final = {
    "float": "<f",
    "double": "<d",
    "fixed32": "<I",
    "sfixed32": "<i",
    "fixed64": "<Q",
    "sfixed64": "<q",
}
_WIRE_FIXED32 = frozenset({"float", "fixed32", "sfixed32"})


def encode(message: betterproto2.Message) -> bytes:
    """Return the binary encoding of `message`; equal messages give equal bytes."""
    parts = []
    for name, default, write in _plan(type(message)):
        value = getattr(message, name)
        if value is None or value == default:
            continue
        parts.append(write(value))
    parts.append(message._unknown_fields)  # noqa: SLF001 - unknown fields must be preserved
    return b"".join(parts)


def repeated(number: int, bodies: Iterable[bytes]) -> bytes:
    """Return the encoded values of a repeated field, to be appended to the encoding of its message.

    With cached parts, one change in a large message costs only the encoding of the changed part.
    """
    key = _varint(number << 3 | 2)
    return b"".join(key + _varint(len(body)) + body for body in bodies)


def type_url(cls: type[betterproto2.Message]) -> str:
    """Return the type URL of `cls`."""
    return type_url_of[cls]


def pack(message: betterproto2.Message) -> AnyMessage:
    """Return `message` wrapped as a google.protobuf.Any."""
    return AnyMessage(type_url=type_url_of[type(message)], value=encode(message))


def encode_any(message: betterproto2.Message, more: bytes = b"") -> bytes:
    """Return the bytes of `message`, with the encoded fields `more` appended, as a google.protobuf.Any."""
    return encode(AnyMessage(type_url=type_url_of[type(message)], value=encode(message) + more))


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@cache
def _plan(cls: type[betterproto2.Message]) -> tuple[tuple[str, object, Writer], ...]:
    meta: betterproto2.ProtoClassMetadata = cls._betterproto  # type: ignore[arg-type, unused-ignore]
    return tuple(
        (name, meta.default_gen[name](), _writer(field)) for name, field in meta.meta_by_field_name.items()
    )


def _writer(field: betterproto2.FieldMetadata) -> Writer:
    if field.map_meta is not None:
        return _map_writer(field.number, *field.map_meta)
    if field.repeated and (field.proto_type in _VARINT or field.proto_type in _FIXED):
        return _packed_writer(field)
    single = _single_writer(field)
    if field.repeated:
        return lambda values: b"".join(map(single, values))
    return single


def _single_writer(field: betterproto2.FieldMetadata) -> Writer:
    payload = _payload_writer(field)
    if field.proto_type in _VARINT:
        key = _varint(field.number << 3)
        return lambda value: key + payload(value)
    if field.proto_type in _FIXED:
        key = _varint(field.number << 3 | (5 if field.proto_type in _WIRE_FIXED32 else 1))
        return lambda value: key + payload(value)
    key = _varint(field.number << 3 | 2)

    def write(value: object) -> bytes:
        body = payload(value)
        return key + _varint(len(body)) + body

    return write


def _payload_writer(field: betterproto2.FieldMetadata) -> Writer:
    kind, unwrap = field.proto_type, field.unwrap
    if kind in _FIXED:
        return struct.Struct(_FIXED[kind]).pack
    if kind == "message" and unwrap is not None:
        # Durations, timestamps and wrapper types are plain Python values in messages.
        wrapper: Any = unwrap()
        return lambda value: encode(wrapper.from_wrapped(value))
    writers: dict[str, Writer] = {"string": str.encode, "bytes": bytes, "message": encode}
    writers |= dict.fromkeys(("sint32", "sint64"), _zigzag)
    return writers.get(kind, _varint)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (value << 1) ^ -1)


def _packed_writer(field: betterproto2.FieldMetadata) -> Writer:
    payload = _payload_writer(field)
    key = _varint(field.number << 3 | 2)

    def write(values: list[object]) -> bytes:
        body = b"".join(map(payload, values))
        return key + _varint(len(body)) + body

    return write


def _map_writer(
    number: int, key_meta: betterproto2.FieldMetadata, value_meta: betterproto2.FieldMetadata
) -> Writer:
    tag = _varint(number << 3 | 2)
    write_key, write_value = _single_writer(key_meta), _single_writer(value_meta)

    def write(entries: dict[Any, object]) -> bytes:
        parts = []
        for key in sorted(entries):
            body = write_key(key) + write_value(entries[key])
            parts.append(tag + _varint(len(body)) + body)
        return b"".join(parts)

    return write
