"""Small FITS files, PNG and JPEG to be damaged: real ones cut down, and some made here."""

import gzip
import io
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from PIL import Image

from stradavit.acquire.simulated.surveys import draw_product
from stradavit.acquire.transfer.fits_length import BLOCK, CARD, MalformedError, data_bytes
from tests.conftest import REPOSITORY
from tests.unit.cutouts.fake_fits import noise, sky_header

SIDE_PX = 40
MOST_BYTES = 100_000
DTYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
SKY = re.compile(rb"'(RA|DEC|GLON|GLAT)")


@dataclass(frozen=True)
class Original:
    """An undamaged file.

    Attributes
    ----------
    name : of the file it was made from
    content : its bytes
    """

    name: str
    content: bytes


@dataclass
class Hdu:
    """One part of a FITS file: its cards without END, and its data with their padding."""

    cards: list[bytes]
    data: bytes

    def value(self, key: bytes) -> bytes | None:
        """What stands behind the equals sign of a card, without the comment."""
        for card in self.cards:
            if card[:10] == key.ljust(8) + b"= ":
                return card[10:].split(b"/")[0].strip()
        return None

    def put(self, key: bytes, value: object) -> None:
        """Set the number of a card that is there."""
        for at, card in enumerate(self.cards):
            if card[:10] == key.ljust(8) + b"= ":
                self.cards[at] = card[:10] + str(value).rjust(20).encode().ljust(70)


def split(content: bytes) -> list[Hdu]:
    """The HDUs of a file; what cannot be understood is left to the data of the last one."""
    hdus: list[Hdu] = []
    at = 0
    while content[at : at + 8].strip() in (b"SIMPLE", b"XTENSION"):
        end = next(
            (k for k in range(at, len(content), CARD) if content[k : k + 8] == b"END     "), None
        )
        if end is None:
            break
        start = min(at + -(-(end + CARD - at) // BLOCK) * BLOCK, len(content))
        try:
            n_bytes = max(0, data_bytes(content[at:end]))
        except MalformedError:
            n_bytes = len(content)
        after = min(start + n_bytes + -n_bytes % BLOCK, len(content))
        cards = [content[k : k + CARD] for k in range(at, end, CARD)]
        hdus.append(Hdu(cards, content[start:after]))
        at = after
    if hdus:
        hdus[-1].data += content[at:]
    return hdus


def joined(hdus: list[Hdu], end: bytes = b"END") -> bytes:
    """The bytes of a file; every header is padded, data are taken as they are."""
    return b"".join(header_bytes(hdu.cards, end) + hdu.data for hdu in hdus)


def header_bytes(cards: list[bytes], end: bytes = b"END") -> bytes:
    """A header of whole blocks."""
    text = b"".join(cards) + end.ljust(CARD)
    return text + b" " * (-len(text) % BLOCK)


@cache
def originals() -> tuple[Original, ...]:
    """All of them, always in the same order."""
    return (*real(), *made())


def real_data() -> Path | None:
    """The folder of real files, where there is one."""
    folder = Path(os.environ.get("STRADAVIT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    return folder if (folder / "mosaics").is_dir() else None


def real() -> list[Original]:
    """Every real FITS file, of the large ones a corner."""
    folder = real_data()
    if folder is None:
        return []
    paths = [
        path
        for part in ("mosaics", "odd-fits", "benchmarks/mirabest/fits", "catalogues")
        for path in sorted((folder / part).rglob("*"))
        if path.suffix in (".fits", ".imfits", ".Z", ".fz", ".gz") and path.is_file()
    ]
    found = []
    n_mirabest = 0
    for path in paths:
        # Thirty-six from one server are as good as two.
        n_mirabest += "mirabest" in path.parts
        if "mirabest" in path.parts and n_mirabest > 2:
            continue
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            content = corner(content)
        if len(content) <= MOST_BYTES:
            found.append(Original(path.name, content))
    return found


def corner(content: bytes) -> bytes:
    """The first HDU with a few pixels along each axis, its other cards untouched."""
    hdu = split(content)[0]
    n_axes = int(hdu.value(b"NAXIS") or 0)
    lengths = [int(hdu.value(b"NAXIS%d" % n) or 0) for n in range(n_axes, 0, -1)]
    dtype = np.dtype(DTYPES[int(hdu.value(b"BITPIX") or 0)])
    if n_axes < 2 or min(lengths) == 0:
        return content
    is_sky = [bool(SKY.match(hdu.value(b"CTYPE%d" % n) or b"")) for n in range(n_axes, 0, -1)]
    if not any(is_sky):
        is_sky[-2:] = [True, True]
    kept = [min(n, SIDE_PX if sky else 2) for n, sky in zip(lengths, is_sky, strict=True)]
    pixels = np.frombuffer(hdu.data, dtype, int(np.prod(lengths))).reshape(lengths)
    # From the middle: the edges of many mosaics are blank.
    middle = tuple(
        slice((n - few) // 2, (n - few) // 2 + few) for n, few in zip(lengths, kept, strict=True)
    )
    data = pixels[middle].tobytes()
    for axis, length in enumerate(reversed(kept), start=1):
        hdu.put(b"NAXIS%d" % axis, length)
    return joined([Hdu(hdu.cards, data + bytes(-len(data) % BLOCK))])


def made() -> list[Original]:
    """Simulated products, every way of packing, and pictures."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for like in ("mgcls", "askap", "lotss", "sdc1"):
            path = draw_product(like, 0, 128, 7, Path(folder))
            found.append(Original(f"simulated {like}", corner(path.read_bytes())))
    image = 100 * noise(SIDE_PX, SIDE_PX)
    plain = _bytes_of(fits.PrimaryHDU(image, sky_header(shape=image.shape)))
    found.append(Original("plain", plain))
    found.append(Original("plain.gz", gzip.compress(plain)))
    for kind in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1"):
        whole = np.abs(image).astype("i2")
        hdu = fits.CompImageHDU(
            whole, sky_header(shape=image.shape), compression_type=kind, tile_shape=(20, 20)
        )
        found.append(Original(f"{kind} of integers", _bytes_of(fits.PrimaryHDU(), hdu)))
    for kind in ("RICE_1", "GZIP_2"):
        hdu = fits.CompImageHDU(image, sky_header(shape=image.shape), compression_type=kind)
        found.append(Original(f"{kind} of floats", _bytes_of(fits.PrimaryHDU(), hdu)))
    picture = Image.fromarray((image % 256).astype("u1"))
    for form in ("PNG", "JPEG"):
        stream = io.BytesIO()
        picture.save(stream, form)
        found.append(Original(form, stream.getvalue()))
    return found


def _bytes_of(*hdus: object) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()
