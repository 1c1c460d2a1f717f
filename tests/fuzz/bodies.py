"""Damage to everything that is not a card: pixels, lengths, packing, and sheer size."""

import gzip
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from stradavit.acquire.transfer.fits_length import BLOCK, CARD
from tests.fuzz.cards import card
from tests.fuzz.originals import Hdu, joined, split

MEGABYTE = 10**6


def cut_short(content: bytes, rng: Generator) -> bytes:
    """Fewer bytes: any number of them, or whole blocks."""
    length = int(rng.integers(len(content) + 1))
    return content[: length - length % BLOCK if rng.random() < 0.3 else length]


def extended(content: bytes, rng: Generator) -> bytes:
    """Bytes after the end: zeros, noise, a page, the file again."""
    more = int(rng.integers(1, 4 * BLOCK))
    tails = (
        bytes(more),
        rng.bytes(more),
        b"<html>503 Service Unavailable</html>",
        b" " * more,
        content,
        b"XTENSION= 'IMAGE   '".ljust(more),
    )
    return content + tails[int(rng.integers(len(tails)))]


def flipped(content: bytes, rng: Generator) -> bytes:
    """A few bytes anywhere, or many."""
    damaged = bytearray(content)
    for _ in range(int(rng.choice([1, 4, 30, 1000]))):
        if damaged:
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
    return bytes(damaged)


def noise(content: bytes, rng: Generator) -> bytes:
    """Random bytes, or random bytes behind the first ones of the file."""
    head = content[: int(rng.choice([0, 9, 30, 80, BLOCK]))]
    return head + rng.bytes(int(rng.integers(20_000)))


VALUES = {
    "pixels NaN or Inf": (np.nan, np.inf, -np.inf),
    "pixels constant": (0.0, 1.0, -1e-3, 1e30),
    "pixels denormal": (1e-45, -1e-44, 1e-310, 5e-324),
    "pixels huge": (3.4e38, -3.4e38, 1.7e308, -1.7e308, 1e39),
}


def pixels(kind: str) -> Callable[[bytes, Generator], bytes]:
    """Values of floats put in blocks, at random places, or everywhere."""

    def damage(content: bytes, rng: Generator) -> bytes:
        hdus = split(content)
        images = [h for h in hdus if len(h.data) and (h.value(b"BITPIX") or b"").startswith(b"-")]
        if not images:
            return flipped(content, rng)
        hdu = images[int(rng.integers(len(images)))]
        dtype = ">f8" if hdu.value(b"BITPIX") == b"-64" else ">f4"
        with np.errstate(all="ignore"):
            values = np.frombuffer(hdu.data, dtype, len(hdu.data) // np.dtype(dtype).itemsize)
            values = values.copy()
            new = np.array(VALUES[kind])[rng.integers(len(VALUES[kind]), size=len(values))]
            if kind == "pixels constant" or rng.random() < 0.3:
                new[:] = new[0]
            way = int(rng.integers(4))
            if way == 0 or kind == "pixels constant":
                where = np.ones(len(values), dtype=bool)
            elif way == 1:
                where = rng.random(len(values)) < rng.random()
            elif way == 2:
                start = int(rng.integers(len(values)))
                where = np.arange(len(values)) >= start
            else:
                where = np.zeros(len(values), dtype=bool)
                where[int(rng.integers(len(values)))] = True
            values[where] = new[where].astype(dtype)
        hdu.data = values.tobytes() + hdu.data[values.nbytes :]
        return joined(hdus)

    return damage


def damaged_gzip(content: bytes, rng: Generator) -> bytes:
    """A packed file cut short, flipped, with a wrong sum, or followed by something else."""
    packed = gzip.compress(content, 1)
    way = int(rng.integers(6))
    if way == 0:
        return packed[: int(rng.integers(len(packed)))]
    if way == 1:
        return flipped(packed, rng)
    if way == 2:
        return packed[:-8] + rng.bytes(8)
    if way == 3:
        return packed + rng.bytes(int(rng.integers(1, 5000)))
    if way == 4:
        return gzip.compress(packed, 1)
    return gzip.compress(cut_short(content, rng), 1)


def bomb(content: bytes, rng: Generator) -> bytes:
    """A few MB that unpack to GBs: pixels, a table before the image, or a header without end."""
    n_members = int(rng.choice([20, 70]))
    size = n_members * 64 * MEGABYTE
    way = int(rng.integers(4))
    rows = size // 40_000
    floats = [card("SIMPLE", "T".rjust(20)), card("BITPIX", "-32".rjust(20))]
    if way == 0:
        start = [*floats, *_axes(10_000, rows)]
        filling = bytes(64 * MEGABYTE)
    elif way == 1:
        table = [
            card("XTENSION", "'BINTABLE'"),
            card("BITPIX", "8".rjust(20)),
            *_axes(40_000, rows),
        ]
        table += [card(k, v.rjust(20)) for k, v in (("PCOUNT", "0"), ("GCOUNT", "1"))]
        table += [card("TFIELDS", "1".rjust(20)), card("TFORM1", "'40000B'")]
        primary = [card("SIMPLE", "T".rjust(20)), card("BITPIX", "8".rjust(20)), *_axes()]
        empty = joined([Hdu([*primary, card("EXTEND", "T".rjust(20))], b"")])
        return gzip.compress(empty + joined([Hdu(table, b"")])) + _members(bytes, n_members)
    elif way == 2:
        start = floats  # and then blanks for ever, where END should be
        return gzip.compress(b"".join(start)) + _members(lambda n: b" " * n, n_members)
    else:
        return gzip.compress(content) + _members(bytes, n_members)
    return gzip.compress(joined([Hdu(start, b"")])) + gzip.compress(filling) * n_members


def _members(filling: Callable[[int], bytes], n_members: int) -> bytes:
    return gzip.compress(filling(64 * MEGABYTE)) * n_members


def _axes(*lengths: int) -> list[bytes]:
    cards = [card("NAXIS", str(len(lengths)).rjust(20))]
    return cards + [
        card(f"NAXIS{n}", str(length).rjust(20)) for n, length in enumerate(lengths, start=1)
    ]


def tiles(content: bytes, rng: Generator) -> bytes:
    """The table of a tile-compressed image, its descriptors and its packed bytes damaged."""
    hdus = split(content)
    table = hdus[-1] if hdus else Hdu([], b"")
    if len(hdus) < 2 or not table.data:
        return flipped(content, rng)
    data = bytearray(table.data)
    n_rows = int(table.value(b"NAXIS2") or 0) * int(table.value(b"NAXIS1") or 0)
    way = int(rng.integers(4))
    if way == 0:  # lengths and places of tiles
        for _ in range(int(rng.integers(1, 4))):
            at = 4 * int(rng.integers(max(1, n_rows // 4)))
            odd = (0, 1, -1, 2**31 - 1, -(2**31), 10**6, int(rng.integers(2**20)))
            data[at : at + 4] = struct.pack(">i", odd[int(rng.integers(len(odd)))])
    elif way == 1:  # the packed bytes
        for _ in range(int(rng.choice([1, 10, 300]))):
            at = int(rng.integers(min(n_rows, len(data) - 1), len(data)))
            data[at] = int(rng.integers(256))
    elif way == 2:  # said to be packed in another way
        kinds = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "NOCOMPRESS", "RICE_ONE", "NONE", "")
        table.cards = [
            card("ZCMPTYPE", f"'{rng.choice(kinds)}'") if c.startswith(b"ZCMPTYPE") else c
            for c in table.cards
        ]
    else:  # all packed bytes replaced
        data[n_rows:] = rng.bytes(len(data) - n_rows)
    table.data = bytes(data)
    return joined(hdus)


def many_cards(content: bytes, rng: Generator) -> bytes:
    """Thousands of cards, good or bad."""
    hdus = split(content)
    if not hdus:
        return content
    hdu = hdus[int(rng.integers(len(hdus)))]
    n = int(rng.choice([2000, 10_000, 40_000]))
    ways = (
        lambda k: b"HISTORY and so on".ljust(CARD),
        lambda k: card(f"K{k}", str(k).rjust(20)),
        lambda k: card("SAME", "1".rjust(20)),
        lambda k: card(f"NAXIS{k}", "1".rjust(20)),
        lambda k: card(f"PV{1 + k % 2}_{k % 100}", "0.1".rjust(20)),
        lambda k: b"CONTINUE  'and so on&'".ljust(CARD),
        lambda k: bytes(CARD),
        lambda k: f"HIERARCH A LONG NAME {k} = 'x'".encode().ljust(CARD),
    )
    way = ways[int(rng.integers(len(ways)))]
    at = len(hdu.cards) if rng.random() < 0.7 else 1
    hdu.cards[at:at] = [way(k) for k in range(n)]
    return joined(hdus)


def large_header(content: bytes, rng: Generator) -> bytes:
    """A header of 100 MB, with an END or without."""
    hdus = split(content)
    if not hdus:
        return content
    fillings = (b"HISTORY".ljust(CARD), b" " * CARD, bytes(CARD), card("KEY", "1".rjust(20)))
    filling = fillings[int(rng.integers(len(fillings)))]
    hdus[0].cards += [filling * (100 * MEGABYTE // CARD)]
    return joined(hdus, bytes(rng.choice([b"END", b""])))


def many_hdus(content: bytes, rng: Generator) -> bytes:
    """Thousands of HDUs: empty ones, tables, tiny images; an image at the end."""
    hdus = split(content)
    if not hdus:
        return content
    primary = Hdu([card("SIMPLE", "T".rjust(20)), card("BITPIX", "8".rjust(20)), *_axes()], b"")
    kind = str(rng.choice(["IMAGE", "BINTABLE", "TABLE", "UNKNOWN"]))
    small = [card("XTENSION", f"'{kind:8}'"), card("BITPIX", "8".rjust(20)), *_axes()]
    if kind != "IMAGE":
        small = [*small[:2], *_axes(0, 0)]
    small += [card(k, v.rjust(20)) for k, v in (("PCOUNT", "0"), ("GCOUNT", "1"), ("TFIELDS", "0"))]
    n = int(rng.choice([500, 5000, 20_000]))
    last = hdus[0].cards[1:]
    tail = joined([Hdu([card("XTENSION", "'IMAGE   '"), *last], hdus[0].data)])
    return joined([primary]) + joined([Hdu(small, b"")]) * n + tail


def raw_stream(content: bytes, rng: Generator) -> bytes:
    """A PNG or JPEG whose first bytes claim another size."""
    if content.startswith(b"\x89PNG"):
        head = bytearray(content[:33])
        sizes = (0, 1, 2**31 - 1, 65_000, 20_000)
        head[16:24] = struct.pack(">II", *(sizes[int(rng.integers(len(sizes)))] for _ in range(2)))
        head[24] = int(rng.choice([8, 16, head[24]]))
        head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
        return bytes(head) + content[33:]
    return flipped(content, rng)


KINDS: dict[str, Callable[[bytes, Generator], bytes]] = {
    "cut short": cut_short,
    "extended": extended,
    "bytes flipped": flipped,
    "random bytes": noise,
    **{kind: pixels(kind) for kind in VALUES},
    "gzip damaged": damaged_gzip,
    "gzip bomb": bomb,
    "tiles damaged": tiles,
    "picture of another size": raw_stream,
    "thousands of cards": many_cards,
    "header of 100 MB": large_header,
    "thousands of HDUs": many_hdus,
}
