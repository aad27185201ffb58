"""The discovery port as an operator wants it: the same for one process and for several that share it."""

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
    """`address` is `host:port`; no `tls` is plaintext; `identity` counts where clients show certificates."""

    address: str
    identifier: str = "shiftplane"
    tls: TlsFiles | None = None
    identity: tuple[IdentityRule, ...] = ()

    @property
    def security(self) -> str:
        """One word for logs."""
        if self.tls is None:
            return "plaintext"
        return "tls" if self.tls.client_ca is None else "mtls"

    def certificates(self) -> Certificates | None:
        """Read the certificates.

        Raises:
            CertificatesError: They cannot be served with.
        """
        return None if self.tls is None else Certificates(self.tls)

    def server(self, hub: Hub, *, shared: bool = False) -> Server:
        """Return a server behind this door, not started yet.

        Raises:
            CertificatesError: Its certificates cannot be served with.
        """
        return Server(
            hub,
            identifier=self.identifier,
            certificates=self.certificates(),
            guard=NodeAuthorizer(self.identity if self.security == "mtls" else ()),
            shared=shared,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
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
        """Return what `to_json` made."""
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
