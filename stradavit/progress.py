"""Progress with rate and ETA: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable
from typing import TypeVar, cast

from tqdm import tqdm

Item = TypeVar("Item")

LOG_INTERVAL_S = 10.0
LOG_LINE = "{desc}: {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]\n"


def progress(
    items: Iterable[Item] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    initial: int = 0,
    unit_scale: bool = False,
) -> "tqdm[Item]":
    """Wrap `items`, or make a bar to `update` by hand if `items` is None.

    Into a log file a bar would be thousands of carriage returns; there it is one line every
    `LOG_INTERVAL_S` seconds. `unit_scale` writes thousands as k, M, G.
    """
    on_terminal = sys.stderr.isatty()
    bar = tqdm(
        items,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        unit_scale=unit_scale,
        dynamic_ncols=on_terminal,
        ascii=None if on_terminal else True,
        mininterval=0.2 if on_terminal else LOG_INTERVAL_S,
        maxinterval=LOG_INTERVAL_S,
        # A fresh line per report keeps logs readable.
        bar_format=None if on_terminal else LOG_LINE,
        leave=True,
    )
    return cast("tqdm[Item]", bar)
