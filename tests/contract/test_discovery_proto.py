"""Our discovery messages against the complete ones of envoy-data-plane: equal bytes in both directions."""

import subprocess
import sys
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.core.v3 import BuildVersion, ControlPlane, Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from envoy_data_plane.envoy.type.v3 import SemanticVersion
from envoy_data_plane.google.protobuf import Any as AnyMessage
from envoy_data_plane.google.protobuf import Struct
from envoy_data_plane.google.rpc import Status

from xds_server.xds.wire import discovery_pb2 as wire

ROOT = Path(__file__).resolve().parents[2]
NODE = Node(
    id="envoy-1",
    cluster="chat",
    metadata=Struct.from_dict({"shiftplane": {"mode": "sidecar"}}),
    user_agent_name="envoy",
    user_agent_build_version=BuildVersion(version=SemanticVersion(major_number=1, minor_number=40, patch=2)),
)
STATUS = Status(code=13, message="no")
ANY = AnyMessage(type_url="type.googleapis.com/x", value=b"\x0a\x01y")


def test_requests_of_envoy_parse_as_our_messages() -> None:
    sotw = DiscoveryRequest(
        version_info="1",
        node=NODE,
        resource_names=["a", "b"],
        type_url="t",
        response_nonce="n",
        error_detail=STATUS,
    )
    ours = wire.DiscoveryRequest.FromString(bytes(sotw))
    assert (ours.version_info, list(ours.resource_names), ours.type_url) == ("1", ["a", "b"], "t")
    assert (ours.response_nonce, ours.error_detail.code, ours.error_detail.message) == ("n", 13, "no")
    assert (ours.node.id, ours.node.cluster, ours.node.user_agent_name) == ("envoy-1", "chat", "envoy")
    assert ours.node.user_agent_build_version.version.minor_number == 40
    assert ours.node.metadata.fields["shiftplane"].struct_value.fields["mode"].string_value == "sidecar"
    assert DiscoveryRequest.parse(ours.SerializeToString()) == sotw

    delta = DeltaDiscoveryRequest(
        node=NODE,
        type_url="t",
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"a": "1"},
        response_nonce="n",
        error_detail=STATUS,
    )
    parsed = wire.DeltaDiscoveryRequest.FromString(bytes(delta))
    assert (list(parsed.resource_names_subscribe), list(parsed.resource_names_unsubscribe)) == (["a"], ["b"])
    assert dict(parsed.initial_resource_versions) == {"a": "1"}
    assert DeltaDiscoveryRequest.parse(parsed.SerializeToString()) == delta


def test_our_responses_parse_as_messages_of_envoy() -> None:
    sotw = wire.DiscoveryResponse(
        version_info="1",
        resources=[bytes(ANY)],
        type_url="t",
        nonce="n",
        control_plane=wire.ControlPlane(identifier="cp"),
    )
    assert DiscoveryResponse.parse(sotw.SerializeToString()) == DiscoveryResponse(
        version_info="1",
        resources=[ANY],
        type_url="t",
        nonce="n",
        control_plane=ControlPlane(identifier="cp"),
    )
    resource = wire.Resource(name="a", version="1", resource=bytes(ANY)).SerializeToString()
    delta = wire.DeltaDiscoveryResponse(
        system_version_info="1",
        resources=[resource],
        type_url="t",
        nonce="n",
        removed_resources=["b"],
        control_plane=wire.ControlPlane(identifier="cp"),
    )
    assert DeltaDiscoveryResponse.parse(delta.SerializeToString()) == DeltaDiscoveryResponse(
        system_version_info="1",
        resources=[Resource(name="a", version="1", resource=ANY)],
        type_url="t",
        nonce="n",
        removed_resources=["b"],
        control_plane=ControlPlane(identifier="cp"),
    )


@pytest.mark.parametrize(
    ("proto", "package"),
    [
        ("discovery", "xds_server/xds"),
        ("status", "xds_server/xds"),
        ("worker", "xds_server/xds"),
        ("metrics", "xds_server/xds"),
        ("accesslog", "mirror_collector"),
    ],
)
def test_the_generated_code_is_current(proto: str, package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos"]
    subprocess.run(
        [*command, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"{proto}.proto"],
        cwd=ROOT,
        check=True,
    )
    for suffix in ("py", "pyi"):
        name = f"{proto}_pb2.{suffix}"
        assert (tmp_path / name).read_text() == (ROOT / package / "wire" / name).read_text(), (
            "run `make protos`"
        )
