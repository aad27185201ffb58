"""Signal dispositions of the test process, which every program that a test starts inherits."""

from __future__ import annotations

import signal

__all__ = ["reset_signals"]


def reset_signals() -> None:
    """Handle SIGINT and SIGTERM as a program that a terminal starts does.

    A shell without job control starts background commands with SIGINT ignored (`nohup make test &`), and an
    ignored signal stays ignored in every process started from there: a test that interrupts a program would
    wait for ever. A handled signal is reset to its default action when a program is executed.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
