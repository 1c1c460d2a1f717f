"""How a job learns that it is to stop, and how it ends.

SIGTERM comes from whoever ends a job; SIGUSR1 is what Slurm can be told to send some minutes before
a time limit or a pre-emption. Both mean the same here: keep what is done, and end with status 143.
"""

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_TERMINATED = 128 + signal.SIGTERM

logger = logging.getLogger(__name__)


@contextmanager
def terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGUSR1 sets; a training looks at it after every update."""
    event = threading.Event()
    with handled(lambda *_: event.set()):
        yield event


@contextmanager
def leaves_when_told() -> Iterator[None]:
    """For all that is not a training: SIGTERM or SIGUSR1 ends it at once, with status 143.

    What is finished stays; what is half-written is removed on the way out, since files take their
    names when they are whole.
    """

    def leave(number: int, _: FrameType | None) -> None:
        ignore()  # a second signal must not interrupt the way out
        logger.warning("Stopped by %s; start again to go on", signal.Signals(number).name)
        raise SystemExit(EXIT_TERMINATED)

    with handled(leave):
        yield


def ignore(stops: Iterable[signal.Signals] = STOPS) -> None:
    """From now on these signals do nothing, until the handlers of before are back."""
    for stop in stops:
        signal.signal(stop, signal.SIG_IGN)


@contextmanager
def handled(handler: Any, stops: Iterable[signal.Signals] = STOPS) -> Iterator[None]:
    """Handle these signals so, and as before afterwards; only the main thread may do that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {stop: signal.signal(stop, handler) for stop in stops}
    try:
        yield
    finally:
        for stop, before in previous.items():
            signal.signal(stop, before)
