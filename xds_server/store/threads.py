"""A thread pool for short store calls.

The pool is separate from the default executor, so that slow DNS lookups and long reads there cannot delay a
kill.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_store_thread"]

P = ParamSpec("P")
T = TypeVar("T")

_POOL: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="store")


async def run_in_store_thread(call: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """Run a short store call in a thread of the pool, so that it does not block the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, partial(call, *args, **named))
