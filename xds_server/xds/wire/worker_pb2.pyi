from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeClass(_message.Message):
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

class ResourceName(_message.Message):
    __slots__ = ("type_url", "name")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    name: str
    def __init__(self, type_url: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Resource(_message.Message):
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

class SnapshotUpdate(_message.Message):
    __slots__ = ("node_class", "version", "changed", "removed", "base_version", "fallback", "nack")
    NODE_CLASS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    node_class: NodeClass
    version: str
    changed: _containers.RepeatedCompositeFieldContainer[Resource]
    removed: _containers.RepeatedCompositeFieldContainer[ResourceName]
    base_version: str
    fallback: bool
    nack: VersionNack
    def __init__(self, node_class: _Optional[_Union[NodeClass, _Mapping]] = ..., version: _Optional[str] = ..., changed: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[ResourceName, _Mapping]]] = ..., base_version: _Optional[str] = ..., fallback: _Optional[bool] = ..., nack: _Optional[_Union[VersionNack, _Mapping]] = ...) -> None: ...

class VersionNack(_message.Message):
    __slots__ = ("node_class", "version", "node", "message")
    NODE_CLASS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    node_class: NodeClass
    version: str
    node: str
    message: str
    def __init__(self, node_class: _Optional[_Union[NodeClass, _Mapping]] = ..., version: _Optional[str] = ..., node: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class VersionReleased(_message.Message):
    __slots__ = ("node_class", "version")
    NODE_CLASS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    node_class: NodeClass
    version: str
    def __init__(self, node_class: _Optional[_Union[NodeClass, _Mapping]] = ..., version: _Optional[str] = ...) -> None: ...

class GroupStatus(_message.Message):
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

class ToWorker(_message.Message):
    __slots__ = ("snapshot", "nack")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    snapshot: SnapshotUpdate
    nack: VersionNack
    def __init__(self, snapshot: _Optional[_Union[SnapshotUpdate, _Mapping]] = ..., nack: _Optional[_Union[VersionNack, _Mapping]] = ...) -> None: ...

class Listening(_message.Message):
    __slots__ = ("pid",)
    PID_FIELD_NUMBER: _ClassVar[int]
    pid: int
    def __init__(self, pid: _Optional[int] = ...) -> None: ...

class FromWorker(_message.Message):
    __slots__ = ("subscribe", "nack", "status", "report", "unsubscribe", "released", "listening", "counts")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    LISTENING_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    subscribe: NodeClass
    nack: VersionNack
    status: GroupStatus
    report: bytes
    unsubscribe: NodeClass
    released: VersionReleased
    listening: Listening
    counts: CountsReport
    def __init__(self, subscribe: _Optional[_Union[NodeClass, _Mapping]] = ..., nack: _Optional[_Union[VersionNack, _Mapping]] = ..., status: _Optional[_Union[GroupStatus, _Mapping]] = ..., report: _Optional[bytes] = ..., unsubscribe: _Optional[_Union[NodeClass, _Mapping]] = ..., released: _Optional[_Union[VersionReleased, _Mapping]] = ..., listening: _Optional[_Union[Listening, _Mapping]] = ..., counts: _Optional[_Union[CountsReport, _Mapping]] = ...) -> None: ...

class LegCounts(_message.Message):
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

class CountsReport(_message.Message):
    __slots__ = ("legs",)
    LEGS_FIELD_NUMBER: _ClassVar[int]
    legs: _containers.RepeatedCompositeFieldContainer[LegCounts]
    def __init__(self, legs: _Optional[_Iterable[_Union[LegCounts, _Mapping]]] = ...) -> None: ...
