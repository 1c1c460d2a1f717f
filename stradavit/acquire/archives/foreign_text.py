"""Texts that services send: what they say, fit for messages, and what they have no reason to hold.

`quoted` and `without_tags` are for every word of a stranger that ends in a log or an error.
"""

import re

# A page where something else was asked for, by its beginning.
HTML = re.compile(r"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
# Entities are declared here, which may expand without end or fetch what they stand for.
DECLARATION = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
MAX_QUOTED = 300


def quoted(text: str, width: int = MAX_QUOTED) -> str:
    """A foreign text fit for a log: one line, printable, of bounded length, no final full stop."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * width]).split())
    return (line if len(line) <= width else line[: width - 1] + "…").rstrip(".")


def without_tags(text: str) -> str:
    """What a web page says, roughly."""
    return re.sub(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text[:20_000], flags=re.I | re.S)


def declaration_in(text: str) -> str:
    """What declares a document type or an entity in an XML text; empty if nothing does.

    A text with one must not be read: none of the archives has a reason to send it.
    """
    found = DECLARATION.search(text)
    return found[0] if found else ""
