"""gRPC server reflection, for tools such as grpcurl.

Our discovery messages are in a protobuf package of our own and contain only the fields we use, so that other
libraries in this process can register Envoy's messages. Clients expect Envoy's names from reflection, so a
separate descriptor pool contains our messages and the services under these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import descriptor_pb2, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection

from xds_server.xds.wire import discovery_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

__all__ = ["enable"]

_OUR_PACKAGE: Final = ".shiftplane.discovery.v1."


def enable(server: grpc.aio.Server, services: dict[str, tuple[str, str]], others: Iterable[str]) -> None:
    """Enable reflection for `services`, name → (SotW method, delta method); list `others` by name only."""
    pool = DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    for package in sorted({name.rpartition(".")[0] for name in services}):
        own = {name: methods for name, methods in services.items() if name.rpartition(".")[0] == package}
        pool.AddSerializedFile(_file(package, own).SerializeToString())
    names = (*services, *others, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool)


def _file(package: str, services: dict[str, tuple[str, str]]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto.FromString(discovery_pb2.DESCRIPTOR.serialized_pb)
    file.name, file.package = f"shiftplane/{package}.proto", package
    for message in _messages(file.message_type):
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_OUR_PACKAGE, f".{package}.")
    for name, methods in services.items():
        service = file.service.add(name=name.rpartition(".")[2])
        for method, kind in zip(methods, ("Discovery", "DeltaDiscovery"), strict=True):
            service.method.add(
                name=method,
                input_type=f".{package}.{kind}Request",
                output_type=f".{package}.{kind}Response",
                client_streaming=True,
                server_streaming=True,
            )
    return file


def _messages(
    found: Iterable[descriptor_pb2.DescriptorProto],
) -> Iterable[descriptor_pb2.DescriptorProto]:
    for message in found:
        yield message
        yield from _messages(message.nested_type)
