"""Certificates created with the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority", "Pair", "authority"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> str:
        """The serial number in Envoy's format."""
        command = ["openssl", "x509", "-noout", "-serial", "-in", str(self.certificate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip().removeprefix("serial=").lower()

    def replace(self, other: Pair) -> None:
        """Overwrite the files with those of another pair, each file atomically."""
        for own, new in ((self.key, other.key), (self.certificate, other.certificate)):
            temporary = own.with_suffix(".new")
            temporary.write_bytes(new.read_bytes())
            temporary.replace(own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority."""

    folder: Path
    root: Pair

    @property
    def ca(self) -> Path:
        return self.root.certificate

    def issue(self, file: str, *names: str, folder: Path | None = None) -> Pair:
        """Issue a certificate with subject alternative names such as `DNS:n1` or `URI:spiffe://...`."""
        pair = _pair(folder or self.folder, file)
        extensions = ["-addext", "basicConstraints=critical,CA:FALSE"]
        if names:
            extensions += ["-addext", f"subjectAltName={','.join(names)}"]
        signer = ["-CA", str(self.root.certificate), "-CAkey", str(self.root.key)]
        _request(pair, file, *signer, *extensions)
        return pair


def authority(folder: Path, name: str = "ca") -> Authority:
    """Return a new CA; skip the test if there is no openssl command."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is missing")
    root = _pair(folder, name)
    _request(root, name)
    return Authority(folder=folder, root=root)


def _pair(folder: Path, name: str) -> Pair:
    folder.mkdir(parents=True, exist_ok=True)
    return Pair(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")


def _request(pair: Pair, name: str, *arguments: str) -> None:
    files = ("-out", str(pair.certificate), "-keyout", str(pair.key))
    done = subprocess.run(
        ["openssl", "req", "-x509", *_KEY, *files, "-subj", f"/CN={name}", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
