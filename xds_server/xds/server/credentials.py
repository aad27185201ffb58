"""The certificates of the discovery port, read anew whenever their files change.

Every handshake asks for them: only then can a new certificate matter, and looking at three files costs less
than the handshake itself. Connections that are open keep what they were opened with. Files that make no sense
are reported once and change nothing; the next change is another try.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import structlog

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates", "CertificatesError", "TlsFiles"]

_Look: TypeAlias = tuple[tuple[int, ...], ...]

log = structlog.get_logger()


class CertificatesError(Exception):
    """The files cannot be served with; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the server's certificate chain and key are, and whose certificates clients must show (PEM)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """What the discovery port shows and trusts. Handshakes ask from threads of their own."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            CertificatesError: They make no sense, so that a start fails rather than every handshake.
        """
        self._files = files
        self._lock = threading.Lock()
        self._look: _Look | None = None
        try:
            self._look = self._look_at()
            self._first = self._read()
        except (OSError, ValueError) as error:  # What ssl raises is an OSError.
            raise CertificatesError(self._complaint(error)) from error

    @property
    def mutual(self) -> bool:
        """Whether clients must show a certificate."""
        return self._files.client_ca is not None

    def credentials(self) -> Any:
        """Return what a gRPC server listens with."""
        return grpc.dynamic_ssl_server_credentials(
            self._first, self.changed, require_client_authentication=self.mutual
        )

    def changed(self) -> Any:
        """Return the new configuration if the files changed and make sense; None keeps the one in use."""
        with self._lock:
            try:
                look = self._look_at()
                if look == self._look:
                    return None
                found = self._read()
                if self._look_at() != look:
                    return None  # Somebody is writing just now; the next handshake looks again.
            except (OSError, ValueError) as error:
                self._report(error)
                return None
            self._look = look
        log.info("xds_certificates_reloaded", certificate=str(self._files.certificate))
        return found

    def _report(self, error: Exception) -> None:
        try:
            look = self._look_at()
        except OSError:
            look = ()  # A file is missing: said once, until it is back.
        if look != self._look:
            self._look = look
            log.error(
                "xds_certificates_refused",
                reason=self._complaint(error),
                consequence="the certificates in use stay; the next change of the files is another try",
            )

    def _paths(self) -> list[Path]:
        files = self._files
        return [path for path in (files.certificate, files.key, files.client_ca) if path is not None]

    def _look_at(self) -> _Look:
        stats = [path.stat() for path in self._paths()]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats)

    def _read(self) -> Any:
        files = self._files
        # gRPC would find out only in a handshake that a key is another certificate's, so it is tried here.
        # The empty passphrase is for a key that has one: without it, OpenSSL would ask on the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, password="")
        roots = None
        if files.client_ca is not None:
            roots = files.client_ca.read_bytes()
            context.load_verify_locations(cadata=roots.decode("ascii"))
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _complaint(self, error: Exception) -> str:
        paths = ", ".join(str(path) for path in self._paths())
        return f"cannot serve discovery streams with {paths}: {error}"
