from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("store", "cursor")
    STORE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    store: str
    cursor: int
    def __init__(self, store: _Optional[str] = ..., cursor: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("store", "cursor", "blocks", "current")
    STORE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    store: str
    cursor: int
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    current: bool
    def __init__(self, store: _Optional[str] = ..., cursor: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., current: _Optional[bool] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("route", "primary_variant", "shadow_variant", "comparator", "begins", "length", "pairs", "client_left", "limited", "counted", "trios", "repeated", "signs", "tokens", "apis")
    class SignsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Signs
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Signs, _Mapping]] = ...) -> None: ...
    class TokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ApisEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ApiCounts
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ApiCounts, _Mapping]] = ...) -> None: ...
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_VARIANT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_VARIANT_FIELD_NUMBER: _ClassVar[int]
    COMPARATOR_FIELD_NUMBER: _ClassVar[int]
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_LEFT_FIELD_NUMBER: _ClassVar[int]
    LIMITED_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    TRIOS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    SIGNS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    APIS_FIELD_NUMBER: _ClassVar[int]
    route: str
    primary_variant: str
    shadow_variant: str
    comparator: int
    begins: int
    length: int
    pairs: int
    client_left: int
    limited: int
    counted: int
    trios: int
    repeated: int
    signs: _containers.MessageMap[str, Signs]
    tokens: _containers.ScalarMap[str, int]
    apis: _containers.MessageMap[str, ApiCounts]
    def __init__(self, route: _Optional[str] = ..., primary_variant: _Optional[str] = ..., shadow_variant: _Optional[str] = ..., comparator: _Optional[int] = ..., begins: _Optional[int] = ..., length: _Optional[int] = ..., pairs: _Optional[int] = ..., client_left: _Optional[int] = ..., limited: _Optional[int] = ..., counted: _Optional[int] = ..., trios: _Optional[int] = ..., repeated: _Optional[int] = ..., signs: _Optional[_Mapping[str, Signs]] = ..., tokens: _Optional[_Mapping[str, int]] = ..., apis: _Optional[_Mapping[str, ApiCounts]] = ...) -> None: ...

class ApiCounts(_message.Message):
    __slots__ = ("pairs", "counted", "read", "unread_pairs", "trios", "signs", "unread")
    class SignsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Signs
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Signs, _Mapping]] = ...) -> None: ...
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    UNREAD_PAIRS_FIELD_NUMBER: _ClassVar[int]
    TRIOS_FIELD_NUMBER: _ClassVar[int]
    SIGNS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    pairs: int
    counted: int
    read: int
    unread_pairs: int
    trios: int
    signs: _containers.MessageMap[str, Signs]
    unread: _containers.RepeatedCompositeFieldContainer[Unread]
    def __init__(self, pairs: _Optional[int] = ..., counted: _Optional[int] = ..., read: _Optional[int] = ..., unread_pairs: _Optional[int] = ..., trios: _Optional[int] = ..., signs: _Optional[_Mapping[str, Signs]] = ..., unread: _Optional[_Iterable[_Union[Unread, _Mapping]]] = ...) -> None: ...

class Unread(_message.Message):
    __slots__ = ("leg", "reason", "answers")
    LEG_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    leg: str
    reason: str
    answers: int
    def __init__(self, leg: _Optional[str] = ..., reason: _Optional[str] = ..., answers: _Optional[int] = ...) -> None: ...

class Signs(_message.Message):
    __slots__ = ("less", "more", "same")
    LESS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    SAME_FIELD_NUMBER: _ClassVar[int]
    less: int
    more: int
    same: int
    def __init__(self, less: _Optional[int] = ..., more: _Optional[int] = ..., same: _Optional[int] = ...) -> None: ...
