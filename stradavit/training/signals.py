"""How a training learns that it is to stop: SIGTERM sets an event, the loop looks at it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_TERMINATED = 128 + signal.SIGTERM


@contextmanager
def terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; the loop looks at it after every update."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may handle signals
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)
