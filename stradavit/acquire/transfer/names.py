"""Names that servers supply, and files that therefore must stay where they belong."""

import unicodedata

from stradavit.errors import DataError

MAX_BYTES = 200
# What a transfer keeps beside a file while it comes.
PART, STATE = ".part", ".part.json"


def safe_name(name: str) -> str:
    """`name`, if it can be a file below a folder: `file` or `sub-folder/file`.

    Raises
    ------
    DataError
        If it could lead elsewhere, hides, reads as an option, or is no printable text.
    """
    steps = name.split("/")
    if (
        not 1 <= len(steps) <= 2
        or len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES
        or not all(_is_safe_step(step) for step in steps)
        or name.endswith((PART, STATE))
    ):
        raise DataError(
            f"{_shown(name)} is no safe file name; expected at most one folder and a file, of "
            f"printable characters, not led by '.' or '-', at most {MAX_BYTES} bytes. An archive "
            "gave it: nothing was written. Leave that product out, and tell the archive."
        )
    return name


def _is_safe_step(step: str) -> bool:
    return (
        step != ""
        and step[0] not in "-."
        and step == step.strip()
        and "\\" not in step
        and all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in step)
    )


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else text[:79] + "…"
