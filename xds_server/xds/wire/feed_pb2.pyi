from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Class(_message.Message):
    __slots__ = ("group", "host", "port", "envoy", "virtual_hosts_apart")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ENVOY_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_HOSTS_APART_FIELD_NUMBER: _ClassVar[int]
    group: str
    host: str
    port: int
    envoy: int
    virtual_hosts_apart: bool
    def __init__(self, group: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., envoy: _Optional[int] = ..., virtual_hosts_apart: _Optional[bool] = ...) -> None: ...

class Name(_message.Message):
    __slots__ = ("type_url", "name")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    name: str
    def __init__(self, type_url: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("type_url", "name", "version", "body", "clusters")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    name: str
    version: str
    body: bytes
    clusters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type_url: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., body: _Optional[bytes] = ..., clusters: _Optional[_Iterable[str]] = ...) -> None: ...

class World(_message.Message):
    __slots__ = ("proxies", "version", "changed", "gone", "base", "good", "refused")
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    proxies: Class
    version: str
    changed: _containers.RepeatedCompositeFieldContainer[Entry]
    gone: _containers.RepeatedCompositeFieldContainer[Name]
    base: str
    good: bool
    refused: Refusal
    def __init__(self, proxies: _Optional[_Union[Class, _Mapping]] = ..., version: _Optional[str] = ..., changed: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., gone: _Optional[_Iterable[_Union[Name, _Mapping]]] = ..., base: _Optional[str] = ..., good: _Optional[bool] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("proxies", "version", "node", "words")
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    proxies: Class
    version: str
    node: str
    words: str
    def __init__(self, proxies: _Optional[_Union[Class, _Mapping]] = ..., version: _Optional[str] = ..., node: _Optional[str] = ..., words: _Optional[str] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("proxies", "version")
    PROXIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    proxies: Class
    version: str
    def __init__(self, proxies: _Optional[_Union[Class, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("group", "connected", "acked", "nacked", "versions", "detail")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    NACKED_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    group: str
    connected: int
    acked: int
    nacked: int
    versions: _containers.RepeatedScalarFieldContainer[str]
    detail: str
    def __init__(self, group: _Optional[str] = ..., connected: _Optional[int] = ..., acked: _Optional[int] = ..., nacked: _Optional[int] = ..., versions: _Optional[_Iterable[str]] = ..., detail: _Optional[str] = ...) -> None: ...

class ToAcceptor(_message.Message):
    __slots__ = ("world", "refused")
    WORLD_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    world: World
    refused: Refusal
    def __init__(self, world: _Optional[_Union[World, _Mapping]] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Listening(_message.Message):
    __slots__ = ("pid",)
    PID_FIELD_NUMBER: _ClassVar[int]
    pid: int
    def __init__(self, pid: _Optional[int] = ...) -> None: ...

class FromAcceptor(_message.Message):
    __slots__ = ("need", "refused", "standing", "report", "forget", "released", "listening", "counted")
    NEED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    LISTENING_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    need: Class
    refused: Refusal
    standing: Standing
    report: bytes
    forget: Class
    released: Released
    listening: Listening
    counted: CountedLegs
    def __init__(self, need: _Optional[_Union[Class, _Mapping]] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., report: _Optional[bytes] = ..., forget: _Optional[_Union[Class, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., listening: _Optional[_Union[Listening, _Mapping]] = ..., counted: _Optional[_Union[CountedLegs, _Mapping]] = ...) -> None: ...

class Counted(_message.Message):
    __slots__ = ("group", "route", "variant", "shadow", "values")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    group: str
    route: str
    variant: str
    shadow: bool
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, group: _Optional[str] = ..., route: _Optional[str] = ..., variant: _Optional[str] = ..., shadow: _Optional[bool] = ..., values: _Optional[_Iterable[int]] = ...) -> None: ...

class CountedLegs(_message.Message):
    __slots__ = ("legs",)
    LEGS_FIELD_NUMBER: _ClassVar[int]
    legs: _containers.RepeatedCompositeFieldContainer[Counted]
    def __init__(self, legs: _Optional[_Iterable[_Union[Counted, _Mapping]]] = ...) -> None: ...
