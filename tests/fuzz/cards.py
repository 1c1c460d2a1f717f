"""Damage to headers, card by card: what each kind does is said by its name in `KINDS`."""

import re
from collections.abc import Callable

from numpy.random import Generator

from stradavit.acquire.transfer.fits_length import CARD
from tests.fuzz.originals import Hdu, joined, split

# Every card that our readers look at, or that Astropy and wcslib look at on the way.
STRUCTURE = [
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "NAXIS3",
    "NAXIS4",
    "PCOUNT",
    "GCOUNT",
    "EXTEND",
    "GROUPS",
    "BSCALE",
    "BZERO",
    "BLANK",
    "BUNIT",
    "EXTNAME",
    "EXTVER",
    "CHECKSUM",
    "DATASUM",
]
SKY = [
    "WCSAXES",
    "CTYPE1",
    "CTYPE2",
    "CTYPE3",
    "CRVAL1",
    "CRVAL2",
    "CRVAL3",
    "CRPIX1",
    "CRPIX2",
    "CDELT1",
    "CDELT2",
    "CUNIT1",
    "CUNIT2",
    "CUNIT3",
    "CROTA1",
    "CROTA2",
    "CD1_1",
    "CD1_2",
    "CD2_1",
    "CD2_2",
    "PC1_1",
    "PC1_2",
    "PC2_1",
    "PC2_2",
    "PC01_02",
    "LONPOLE",
    "LATPOLE",
    "PV1_1",
    "PV2_1",
    "PV2_99",
    "PS1_0",
    "PS2_1",
    "EQUINOX",
    "EPOCH",
    "RADESYS",
    "RADECSYS",
    "DATE-OBS",
    "MJD-OBS",
    "SPECSYS",
    "RESTFRQ",
    "RESTFREQ",
    "FREQ",
    "BMAJ",
    "BMIN",
    "BPA",
    "VELREF",
    "CTYPE1A",
    "CRVAL1A",
    "A_ORDER",
    "B_ORDER",
    "AP_ORDER",
    "BP_ORDER",
    "A_0_2",
    "A_DMAX",
    "CPDIS1",
    "DP1",
    "CQDIS1",
    "DQ1",
    "D2IMDIS1",
    "D2IMERR1",
    "OBSGEO-X",
    "TIMESYS",
]
TILES = [
    "ZIMAGE",
    "ZBITPIX",
    "ZNAXIS",
    "ZNAXIS1",
    "ZNAXIS2",
    "ZTILE1",
    "ZTILE2",
    "ZCMPTYPE",
    "ZNAME1",
    "ZVAL1",
    "ZVAL2",
    "ZQUANTIZ",
    "ZDITHER0",
    "ZBLANK",
    "ZSCALE",
    "ZZERO",
    "ZSIMPLE",
    "ZPCOUNT",
    "TFIELDS",
    "TFORM1",
    "TFORM2",
    "TTYPE1",
    "TTYPE2",
    "THEAP",
    "TDIM1",
    "TNULL1",
    "TSCAL1",
    "TZERO1",
]

WRONG = ("'text'", "T", "F", "1.5", "(1.0, 2.0)", "", "1.0D3", "0x10", "1_000", "'1'", "--1", "''")
HUGE = (
    *(str(10**n) for n in (5, 9, 12, 15, 18, 60)),
    *(str(2**n + k) for n in (31, 32, 63, 64) for k in (-1, 0)),
    *("999", "65536", "1E300", "1E9999", "1.7976931348623157E308"),
)
SMALL = ("0", "-1", "-8", "-64", "-999", str(-(2**31)), str(-(2**63)), "-0.0", "1E-320", "-1E300")
NOT_A_NUMBER = ("NaN", "nan", "Inf", "-Inf", "'NaN'", "INDEF", "1.#QNAN", "Infinity", "-nan")

Damage = Callable[[list[Hdu], Generator], None]


def card(key: str, value: str | bytes) -> bytes:
    """A card with a value as it is; longer than 80 bytes it is cut."""
    text = value if isinstance(value, bytes) else value.encode()
    return (f"{key:8}= ".encode() + text).ljust(CARD)[:CARD]


def put(cards: list[bytes], key: str, new: bytes) -> None:
    """Replace the first card of this name, or add one."""
    for at, old in enumerate(cards):
        if old[:8] == key.encode().ljust(8):
            cards[at] = new
            return
    cards.append(new)


def _target(hdus: list[Hdu], rng: Generator) -> tuple[Hdu, str]:
    """An HDU and the name of a card; twice in three times one that is there."""
    hdu = hdus[int(rng.integers(len(hdus)))]
    known = [*STRUCTURE, *SKY, *(TILES if len(hdus) > 1 else [])]
    present = [key for c in hdu.cards if (key := c[:8].decode("latin1").strip()) in known]
    keys = present if present and rng.random() < 2 / 3 else known
    return hdu, str(rng.choice(keys))


def _valued(values: tuple[str, ...]) -> Damage:
    def damage(hdus: list[Hdu], rng: Generator) -> None:
        hdu, key = _target(hdus, rng)
        put(hdu.cards, key, card(key, str(rng.choice(values)).rjust(20)))

    return damage


def missing(hdus: list[Hdu], rng: Generator) -> None:
    hdu, key = _target(hdus, rng)
    hdu.cards[:] = [c for c in hdu.cards if c[:8] != key.encode().ljust(8)]


def twice(hdus: list[Hdu], rng: Generator) -> None:
    hdu, key = _target(hdus, rng)
    same = [c for c in hdu.cards if c[:8] == key.encode().ljust(8)]
    other = card(key, str(rng.choice(WRONG + HUGE + SMALL)).rjust(20))
    at = int(rng.integers(len(hdu.cards) + 1))
    hdu.cards.insert(at, same[0] if same and rng.random() < 0.5 else other)


def order(hdus: list[Hdu], rng: Generator) -> None:
    hdu = hdus[int(rng.integers(len(hdus)))]
    first = int(rng.integers(2)) if rng.random() < 0.8 else 0
    some = hdu.cards[first:]
    rng.shuffle(some)
    hdu.cards[first:] = some


def not_ascii(hdus: list[Hdu], rng: Generator) -> None:
    hdu, key = _target(hdus, rng)
    odd = bytes(rng.integers(0, 256, size=int(rng.integers(1, 70)), dtype="u1"))
    if rng.random() < 0.3:
        odd = bytes(rng.choice([b"\0", b"\t", b"\n", b"\r", b"\x7f", b"\xff", b"\xc3\xa9"]))
    new = card(key, b"'" + odd + b"'") if rng.random() < 0.5 else card(key, odd)
    if rng.random() < 0.2:
        new = odd[:8].ljust(8) + new[8:]
    put(hdu.cards, key, new)


def strings(hdus: list[Hdu], rng: Generator) -> None:
    hdu, key = _target(hdus, rng)
    way = int(rng.integers(5))
    if way == 0:
        put(hdu.cards, key, card(key, "'" + "x" * 69))  # never closed
    elif way == 1:
        put(hdu.cards, key, card(key, "'it''s '' a ' / ''' & '&'"))
    elif way == 2:
        put(hdu.cards, key, card(key, b"'" + b"y" * 67 + b"&"))
        hdu.cards.append(card(key, b"'" + b"y" * 66 + b"&'"))
        hdu.cards += [b"CONTINUE  '" + b"z" * 66 + b"&'  "] * int(rng.integers(1, 300))
    elif way == 3:
        name = "HIERARCH " + "A " * int(rng.integers(1, 30)) + key
        hdu.cards.append(f"{name} = {rng.choice(HUGE)}".encode().ljust(CARD)[:CARD])
    else:
        hdu.cards.append(b"CONTINUE  'alone'".ljust(CARD))
        hdu.cards.append(b"HIERARCH".ljust(CARD))
        hdu.cards.append(b"=" * CARD)


KINDS: dict[str, Damage] = {
    "card missing": missing,
    "card twice": twice,
    "card of a wrong type": _valued(WRONG),
    "card with a huge number": _valued(HUGE),
    "card with zero or less": _valued(SMALL),
    "card with NaN or Inf": _valued(NOT_A_NUMBER),
    "card not in ASCII": not_ascii,
    "card with a bad string": strings,
    "cards in another order": order,
}


def mutate(content: bytes, kind: str, rng: Generator) -> bytes:
    """One to three cards of a file damaged in one way."""
    hdus = split(content)
    if not hdus:
        return content
    for _ in range(int(rng.integers(1, 4))):
        KINDS[kind](hdus, rng)
    return joined(hdus)


def end_card(content: bytes, rng: Generator) -> bytes:
    """A header without END, with a damaged one, or with one too early."""
    hdus = split(content)
    if not hdus:
        return content
    way = int(rng.integers(4))
    if way == 0:
        return joined(hdus, b"    ")
    if way == 1:
        return joined(hdus, bytes(rng.choice([b"END=", b"end", b"END x", b"END\0", b"\0END"])))
    if way == 2:
        hdu = hdus[int(rng.integers(len(hdus)))]
        hdu.cards.insert(int(rng.integers(len(hdu.cards) + 1)), b"END".ljust(CARD))
        return joined(hdus)
    return re.sub(rb"(?m)END {77}", b"HISTORY".ljust(CARD), joined(hdus))


# What a header may claim without the file having it; `None` means the shape of an image.
CLAIMS: tuple[dict[str, int | str], ...] = (
    {"NAXIS": 2, "NAXIS1": 10**9, "NAXIS2": 10**9},
    {"NAXIS": 2, "NAXIS1": 16_000_000, "NAXIS2": 16_000_000},
    {"NAXIS": 2, "NAXIS1": 1, "NAXIS2": 10**15},
    {"NAXIS": 2, "NAXIS1": 10**15, "NAXIS2": 1},
    {"NAXIS": 999, **{f"NAXIS{n}": 2 for n in range(1, 1000)}},
    {"NAXIS": 999, **{f"NAXIS{n}": 10**18 for n in range(1, 1000)}},
    {"NAXIS": 999, **{f"NAXIS{n}": 1 for n in range(1, 1000)}},
    {"NAXIS": 40, **{f"NAXIS{n}": 1 for n in range(1, 39)}, "NAXIS39": 40, "NAXIS40": 40},
    {"NAXIS": 10**9},
    {"NAXIS": 10**60},
    {"PCOUNT": 10**15},
    {"GCOUNT": 10**15},
    {"GCOUNT": -1},
    {"PCOUNT": -(10**15)},
    {"BITPIX": 8 * 10**15},
    {"WCSAXES": 10**9},
    {"WCSAXES": 99},
    {"A_ORDER": 10**6, "B_ORDER": 10**6},
    {"AP_ORDER": 20_000, "BP_ORDER": 20_000},
    {"CTYPE1": "'RA---TAB'", "CTYPE2": "'DEC--TAB'", "PS1_0": "'X'", "PV1_1": 10**9},
)
TILE_CLAIMS: tuple[dict[str, int | str], ...] = (
    {"ZNAXIS1": 10**9, "ZNAXIS2": 10**9},
    {"ZNAXIS1": 10**6, "ZNAXIS2": 10**9, "ZTILE1": 10**6, "ZTILE2": 1},
    {"ZNAXIS1": 10**6, "ZNAXIS2": 10**6, "ZTILE1": 10**4, "ZTILE2": 10**4},
    {"ZTILE1": 10**9, "ZTILE2": 10**9},
    {"ZTILE1": 1, "ZTILE2": 1},
    {"ZNAXIS": 999, **{f"ZNAXIS{n}": 2 for n in range(1, 1000)}},
    {"ZNAXIS": 10**9},
    {"NAXIS2": 10**12},
    {"NAXIS1": 10**12},
    {"PCOUNT": 10**15},
    {"THEAP": 10**15},
    {"TFIELDS": 10**9},
    {"TFORM1": "'1000000000000PB(1000000000000)'"},
    {"TFORM1": "'999999999B'"},
    {"ZBITPIX": -64, "ZNAXIS1": 10**8},
)


def claim(content: bytes, rng: Generator) -> bytes:
    """A header that promises a petabyte, or asks for one in another way."""
    hdus = split(content)
    if not hdus:
        return content
    is_tiled = any(c.startswith(b"ZIMAGE") for hdu in hdus for c in hdu.cards)
    claims = TILE_CLAIMS if is_tiled and rng.random() < 0.8 else CLAIMS
    chosen = claims[int(rng.integers(len(claims)))]
    hdu = hdus[-1] if claims is TILE_CLAIMS else hdus[int(rng.integers(len(hdus)))]
    for key, value in chosen.items():
        put(hdu.cards, key, card(key, str(value).rjust(20)))
    return joined(hdus)
