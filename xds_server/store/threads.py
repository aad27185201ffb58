"""Threads of the store's own: slow names and long readings take others, and a kill finds one of these."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["soon"]

P = ParamSpec("P")
T = TypeVar("T")

_POOL: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="store")


async def soon(call: Callable[P, T], /, *args: P.args, **named: P.kwargs) -> T:
    """Call something short of a store without the loop waiting for it."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, partial(call, *args, **named))
