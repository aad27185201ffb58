"""Set up every test process: environment, signals, time limits, order of tests, report of the run."""

from __future__ import annotations

import faulthandler
import gc
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.parts import Parts
from tests.support.signals import reset_signals
from tests.support.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Generator

# Tests start programs from a process in which gRPC may run threads: its handlers around fork would end the
# child now and then, before the program begins.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# The core of gRPC logs every connection that hostile clients of the tests provoke it to close.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Test processes use all cores; threads of OpenBLAS that wait for each other would only slow them down.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
reset_signals()
# How long an example takes depends on the load of the machine.
settings.register_profile("shiftplane", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shiftplane")

# Seconds. The limit of a test that starts no Envoy is `timeout` in pyproject.toml.
_LIMIT_WITH_ENVOY: Final = 600
_LIMIT_OF_EXIT: Final = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parts", action="store_true", help="Print a line per finished folder of tests instead of dots."
    )


def pytest_configure(config: pytest.Config) -> None:
    worker = "PYTEST_XDIST_WORKER" in os.environ
    run = os.getppid() if worker else os.getpid()
    lock = Path(tempfile.gettempdir()) / f"shiftplane-tests-{run}.lock"
    config.pluginmanager.register(Turns(lock, owns_file=not worker))
    if config.getoption("--parts") and not worker:
        config.pluginmanager.register(Parts(config))


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than cores: a test with an Envoy waits for most of its time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Give tests their limits and groups, and start those that take long first."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and not _alone(item):
            # Tests of one file share what the file starts.
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        if _with_envoy(item) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT_WITH_ENVOY))
    yield
    items.sort(key=_turn)


def pytest_collection_finish() -> None:
    """Exclude what is imported by now from garbage collection, which otherwise visits it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """End a process that does not exit because of a thread that a test left running, and print its stacks."""
    faulthandler.dump_traceback_later(_LIMIT_OF_EXIT, exit=True)


def _with_envoy(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("e2e", "versions"))


def _alone(item: pytest.Item) -> bool:
    """Return whether any worker may run the test without the other tests of its file."""
    return _with_envoy(item) or item.get_closest_marker("long") is not None


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("quiet") is not None:
        return 3
    if item.get_closest_marker("long") is not None:
        return 0
    return 1 if _with_envoy(item) else 2
