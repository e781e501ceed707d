"""Ctrl-C at a moment that suits: after the current step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def deferred_interrupt(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` at the first Ctrl-C instead of raising KeyboardInterrupt; the second one raises as usual.

    Only the main thread receives Ctrl-C; in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        notice()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
