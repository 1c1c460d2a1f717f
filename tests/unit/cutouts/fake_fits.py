"""Small FITS files, one for each oddity that survey archives hold."""

import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits

BLOCK = 2880


def sky_header(
    ra_deg: float = 150.0,
    dec_deg: float = 2.0,
    scale_arcsec: float = 2.0,
    shape: tuple[int, int] = (40, 60),
    projection: str = "SIN",
) -> fits.Header:
    """A celestial header whose reference pixel is the middle of the image."""
    header = fits.Header()
    for axis, (name, value, length, sign) in enumerate(
        [("RA--", ra_deg, shape[1], -1), ("DEC-", dec_deg, shape[0], 1)], start=1
    ):
        header[f"CTYPE{axis}"] = f"{name}-{projection}"
        header[f"CRVAL{axis}"] = value
        header[f"CRPIX{axis}"] = (length + 1) / 2
        header[f"CDELT{axis}"] = sign * scale_arcsec / 3600
        header[f"CUNIT{axis}"] = "deg"
    header["BUNIT"] = "JY/BEAM"
    header["BMAJ"], header["BMIN"] = 10 / 3600, 6 / 3600
    return header


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Gaussian noise, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(path: Path, data: np.ndarray, header: fits.Header | None = None) -> Path:
    """A file with one image."""
    fits.PrimaryHDU(data, header).writeto(path)
    return path


def raw_header(*cards: str) -> bytes:
    """A header block of cards as they are, whether they make sense or not."""
    text = "".join(f"{card:80}" for card in [*cards, "END"])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def packed(path: Path, source: Path) -> Path:
    """A gzip copy of a file."""
    path.write_bytes(gzip.compress(source.read_bytes()))
    return path
