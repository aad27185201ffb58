"""What holds for all tests."""

from __future__ import annotations

import os

# Tests start programs from a process in which gRPC may run threads: its handlers around fork would end the
# child now and then, before the program begins.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
