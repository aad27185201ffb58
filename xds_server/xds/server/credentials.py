"""The TLS certificates of the xDS port, reloaded when their files change.

The files are checked in every handshake: only then does a new certificate matter, and reading the status of
three files costs less than the handshake itself. Open connections keep the certificates of their handshake.
Invalid files are logged once and the certificates in use are kept; after the next change of the files, they
are read again.
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

_FileStates: TypeAlias = tuple[tuple[int, ...], ...]

log = structlog.get_logger()


class CertificatesError(Exception):
    """A certificate file is missing or invalid; the message names the files and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths to the certificate chain, its key, and the CA that signs client certificates (PEM)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """The certificates in use; handshakes call `changed` from threads of gRPC."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            CertificatesError: A file is missing or invalid. Without this check, the server would start and
                each handshake would fail.
        """
        self._files = files
        self._lock = threading.Lock()
        self._known_states: _FileStates | None = None
        try:
            self._known_states = self._file_states()
            self._first = self._read()
        except (OSError, ValueError) as error:  # What ssl raises is an OSError.
            raise CertificatesError(self._error_message(error)) from error

    @property
    def mutual(self) -> bool:
        """Whether clients must have a certificate (mutual TLS)."""
        return self._files.client_ca is not None

    def credentials(self) -> Any:
        """Return the gRPC server credentials, which check the files in each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._first, self.changed, require_client_authentication=self.mutual
        )

    def changed(self) -> Any:
        """Return the new configuration if the files changed and are valid; None keeps the one in use."""
        with self._lock:
            try:
                states = self._file_states()
                if states == self._known_states:
                    return None
                found = self._read()
                if self._file_states() != states:
                    return None  # The files are being written; the next handshake checks them again.
            except (OSError, ValueError) as error:
                self._report(error)
                return None
            self._known_states = states
        log.info("xds_certificates_reloaded", certificate=str(self._files.certificate))
        return found

    def _report(self, error: Exception) -> None:
        try:
            states = self._file_states()
        except OSError:
            states = ()  # A file is missing, which is logged once until it exists again.
        if states != self._known_states:
            self._known_states = states
            log.error(
                "xds_certificates_rejected",
                reason=self._error_message(error),
                consequence="the certificates in use are kept until the files change again and are valid",
            )

    def _paths(self) -> list[Path]:
        files = self._files
        return [path for path in (files.certificate, files.key, files.client_ca) if path is not None]

    def _file_states(self) -> _FileStates:
        stats = [path.stat() for path in self._paths()]
        return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats)

    def _read(self) -> Any:
        files = self._files
        # gRPC detects a key of another certificate only in a handshake, so the pair is loaded here first.
        # Without a password argument, OpenSSL would prompt on the terminal for an encrypted key.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, password="")
        roots = None
        if files.client_ca is not None:
            roots = files.client_ca.read_bytes()
            try:
                context.load_verify_locations(cadata=roots.decode("ascii"))
            except UnicodeDecodeError as error:
                raise ValueError(f"{files.client_ca}: not ASCII text (byte {error.start})") from error
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _error_message(self, error: Exception) -> str:
        paths = ", ".join(str(path) for path in self._paths())
        return f"cannot load the TLS certificates of the xDS port from {paths}: {error}"
