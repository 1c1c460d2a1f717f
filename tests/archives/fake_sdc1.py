"""A small SDC1: share links that answer, redirect, or show a page."""

from collections.abc import Mapping
from functools import cache
from io import BytesIO

import numpy as np
from astropy.io import fits

from stradavit.acquire.archives.sdc1 import FULL_SHARES, PIXEL_DEG, TRAINING_SHARES
from stradavit.settings.sources import SDC1_SHARES

from .server import Reply, Request, file, html, redirect

SHARES = "/index.php/s/"
STORE = "/remote.php/webdav/"
HEADER_BLOCKS = 4

TRAINING_HEADER = """\
COLUMN1:    ID    [none]    Source ID
COLUMN2:    RA (core)    [degs]    Right ascension of the source core
COLUMN10:    PA    [degs]\x20\x20\x20\x20
PA (measured clockwise from the longitude-wise direction)
COLUMN13:    SELECTION    [none]\x20\x20\x20\x20
0,1 to record that the source has not/has been injected in the simulated map due to noise level
COLUMN15:    y    [none]    pixel y coordinate of the centroid,starting from 0
        ID      RA (core)     DEC (core)  RA (centroid) DEC (centroid)
"""


class FakeSdc1:
    """The shares; an app for `Loopback`.

    Parameters
    ----------
    files : name and bytes of a file, by the token of its share
    expired : tokens that answer as unknown ones do, with a page and 404
    is_redirecting : downloads lead to another path of the host first
    """

    def __init__(
        self,
        files: Mapping[str, tuple[str, bytes]],
        expired: frozenset[str] = frozenset(),
        is_redirecting: bool = False,
    ) -> None:
        self.files = dict(files)
        self.expired = expired
        self.is_redirecting = is_redirecting

    def __call__(self, request: Request) -> Reply:
        if request.path.startswith(STORE):
            return self._file(request, request.path.removeprefix(STORE))
        token, _, action = request.path.removeprefix(SHARES).partition("/")
        if not request.path.startswith(SHARES) or action != "download":
            return html(404)
        if token not in self.files or token in self.expired:
            return html(404)
        return redirect(f"{STORE}{token}") if self.is_redirecting else self._file(request, token)

    def _file(self, request: Request, token: str) -> Reply:
        name, body = self.files[token]
        reply = file(request, body)
        told = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}; filename=\"{name}\""}
        # No digest of the content: ownCloud's ETag changes with the entry in its database.
        return Reply(
            reply.status, {**reply.headers, "ETag": f'"{token.lower()}"', **told}, reply.body
        )


@cache
def image(band: str, seed: int = 0, side_px: int = 1024) -> bytes:
    """A FITS file of (1, 1, side, side) float32 with the header of that band, four blocks long."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0.0, 2e-7, (side_px, side_px)).astype(np.float32)
    for y, x in rng.integers(8, side_px - 8, (max(4, side_px**2 // 2000), 2)):
        data[y - 2 : y + 3, x - 2 : x + 3] += np.float32(1e-6 * (1.0 + rng.pareto(1.2)))
    header = fits.Header()
    step = PIXEL_DEG[band]
    centre = side_px / 2
    for axis, (kind, value, width, pixel) in enumerate(
        [
            ("RA---SIN", 0.0, -step, centre),
            ("DEC--SIN", -30.0, step, centre),
            ("FREQ", {"B1": 5.6e8, "B2": 1.4e9, "B5": 9.2e9}[band], 1.0, 1.0),
            ("STOKES", 1.0, 1.0, 1.0),
        ],
        start=1,
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = width, pixel
    header["BUNIT"] = "JY/BEAM"
    beam_deg = {"B1": 1.5, "B2": 0.6, "B5": 0.0913}[band] / 3600.0
    header["BMAJ"], header["BMIN"], header["BPA"] = beam_deg, beam_deg, 0.0
    hdu = fits.PrimaryHDU(data[None, None], header)
    while len(hdu.header.tostring()) < HEADER_BLOCKS * 2880:
        hdu.header.add_history("restored image of the simulated sky")
    out = BytesIO()
    hdu.writeto(out)
    return out.getvalue()


def training_set(rows: int = 40) -> bytes:
    """A catalogue with its header in prose and 15 columns."""
    rng = np.random.default_rng(rows)
    lines = [
        f"{rng.integers(10**7):10d} {-rng.uniform(0, 0.6):14.8f} {-29.7:14.8f} {-0.3:14.8f} "
        f"{-29.7:14.8f} {3.4e-5:14.5e} {-0.0:14.8f} {5.6:14.3f} {5.551:14.3f} {328.554:14.3f} "
        f"{1:9d} {1:9d} {1:9d} {19704.519:14.3f} {17712.942:14.3f}\n"
        for _ in range(rows)
    ]
    return (TRAINING_HEADER + "".join(lines)).encode()


def full_truth(rows: int = 80) -> bytes:
    """A catalogue of 12 columns without a header."""
    rng = np.random.default_rng(rows)
    return b"".join(
        b"%d %.8f -29.7 -0.3 -29.7 1.1e-07 0.0 0.056 0.036 -21.8 2 3\n" % (n, -rng.uniform(0, 2.6))
        for n in range(rows)
    )


def sample(side_px: int = 1024) -> dict[str, tuple[str, bytes]]:
    """The default images of a survey and all truth catalogues, by token."""
    found = {}
    for number, (name, token) in enumerate(sorted(SDC1_SHARES.items())):
        found[token] = (name, image(name.split("_")[1], number, side_px))
    for name, token in TRAINING_SHARES.items():
        found[token] = (name, training_set())
    for name, token in FULL_SHARES.items():
        found[token] = (name, full_truth())
    return found
