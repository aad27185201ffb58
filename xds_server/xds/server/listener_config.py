"""The configuration of the xDS port, which one process or several workers listen on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xds_server.xds.server.credentials import Certificates, TlsFiles
from xds_server.xds.server.node_authorizer import NodeAuthorizer
from xds_server.xds.server.service import Server
from xds_server.xds.session import IdentityRule, parse_rule

if TYPE_CHECKING:
    from xds_server.xds.server.hub import Hub

__all__ = ["ListenerConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """Address, TLS files and identity templates of the xDS port.

    `address` is `host:port`. Without `tls` the port serves plaintext. `identity` applies to mutual TLS only.
    """

    address: str
    identifier: str = "shiftplane"
    tls: TlsFiles | None = None
    identity: tuple[IdentityRule, ...] = ()

    @property
    def security(self) -> str:
        """The security mode, for logs: plaintext, tls or mtls."""
        if self.tls is None:
            return "plaintext"
        return "tls" if self.tls.client_ca is None else "mtls"

    def certificates(self) -> Certificates | None:
        """Return the certificates, read from their files; None without TLS.

        Raises:
            CertificatesError: A file is missing or invalid.
        """
        return None if self.tls is None else Certificates(self.tls)

    def server(self, hub: Hub, *, shared: bool = False) -> Server:
        """Return a server with this configuration, not started yet.

        `shared` lets other processes listen on the same port.

        Raises:
            CertificatesError: A certificate file is missing or invalid.
        """
        return Server(
            hub,
            identifier=self.identifier,
            certificates=self.certificates(),
            authorizer=NodeAuthorizer(self.identity if self.security == "mtls" else ()),
            shared=shared,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        files = None
        if self.tls is not None:
            client_ca = self.tls.client_ca
            files = {
                "certificate": str(self.tls.certificate),
                "key": str(self.tls.key),
                "client_ca": None if client_ca is None else str(client_ca),
            }
        return {
            "address": self.address,
            "identifier": self.identifier,
            "tls": files,
            "identity": [rule.template for rule in self.identity],
        }

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> ListenerConfig:
        """Return the configuration in the JSON values that `to_json` returned."""
        files = values["tls"]
        return cls(
            address=values["address"],
            identifier=values["identifier"],
            tls=(
                None
                if files is None
                else TlsFiles(
                    certificate=Path(files["certificate"]),
                    key=Path(files["key"]),
                    client_ca=None if files["client_ca"] is None else Path(files["client_ca"]),
                )
            ),
            identity=tuple(parse_rule(template) for template in values["identity"]),
        )
