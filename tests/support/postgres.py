"""A PostgreSQL of the Debian package: one for each process of a test run, on loopback, gone at its end."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg
import pytest

from tests.support.debian import program

__all__ = ["fresh_schema"]

_WITHIN = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # these tests do not test durability
    "max_connections": "40",
    "shared_buffers": "16MB",
}


def fresh_schema() -> str:
    """Return the URL of an empty schema; skip the test if PostgreSQL cannot be installed."""
    url = _server()
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{url}?options=-csearch_path%3D{name}"


@functools.cache
def _server() -> str:
    program("postgresql", "pg_ctlcluster")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not versions:
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="shiftplane-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # PostgreSQL refuses to run as root.
    as_other: list[str] = []
    if os.geteuid() == 0:
        as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    made = [versions[-1] / "initdb", "-D", data, "-U", "tests", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*as_other, *map(str, made)], check=True, capture_output=True, timeout=_WITHIN, cwd=folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*as_other, str(versions[-1] / "postgres"), "-D", str(data), f"-p{port}", *flags],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    atexit.register(_end, process)
    url = f"postgresql://tests@127.0.0.1:{port}/postgres"
    end = time.monotonic() + _WITHIN
    while True:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2):
            return url
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"PostgreSQL did not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Request a fast shutdown."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
