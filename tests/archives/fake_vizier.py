"""The CDS as a store of catalogue files: ReadMe and tables in fixed columns."""

import gzip
from collections.abc import Mapping, Sequence

from .server import App, files

READ_ME = """{catalogue}         Synthetic classes                                (Nobody+, 2030)
================================================================================
File Summary:
--------------------------------------------------------------------------------
 FileName      Lrecl  Records   Explanations
--------------------------------------------------------------------------------
ReadMe            80        .   This file
{rows}
--------------------------------------------------------------------------------
"""


def cds(
    catalogue: str, tables: Mapping[str, Sequence[str]], prefix: str = "/ftp", packed: bool = False
) -> App:
    """A catalogue; `packed` tables exist as .gz only."""
    by_path = {}
    rows = []
    for name, lines in tables.items():
        width = max((len(line) for line in lines), default=0)
        rows.append(f"{name:<12}{width:>7}{len(lines):>9}   Synthetic")
        body = "".join(f"{line}\n" for line in lines).encode("ascii")
        if packed:
            by_path[f"{prefix}/{catalogue}/{name}.gz"] = gzip.compress(body, mtime=0)
        else:
            by_path[f"{prefix}/{catalogue}/{name}"] = body
    read_me = READ_ME.format(catalogue=catalogue, rows="\n".join(rows))
    by_path[f"{prefix}/{catalogue}/ReadMe"] = read_me.encode("ascii")
    return files(by_path)
