"""LoTSS DR2 on this machine: the VO service's table of mosaics, and both places of the files."""

import io
import zlib
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
from astropy.io import fits

from .fake_tap import BadQuestionError, binary_votable, document, info, run
from .server import Reply, Request, file, html, text

VOTABLE = "application/x-votable+xml"


def mosaic(seed: int, field_name: str, side_px: int = 40) -> bytes:
    """A mosaic as the LoTSS pipeline writes it: float64, two axes, NaN outside its outline."""
    pixels = np.random.default_rng(seed).normal(scale=1e-4, size=(side_px, side_px))
    pixels[:, :5] = np.nan
    hdu = fits.PrimaryHDU(pixels)
    header = {
        "CTYPE1": "RA---SIN",
        "CTYPE2": "DEC--SIN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": side_px / 2,
        "CRPIX2": side_px / 2,
        "CRVAL1": 0.03125,
        "CRVAL2": 23.3953,
        "CDELT1": -0.00041666666666666,
        "CDELT2": 0.00041666666666666,
        "RADESYS": "ICRS",
        "BMAJ": 0.001666666666666667,
        "BMIN": 0.001666666666666667,
        "BPA": 90,
        "BUNIT": "JY/BEAM",
        "RESTFRQ": 143650000.0,
        "OBJECT": field_name,
    }
    hdu.header.update(header)
    written = io.BytesIO()
    hdu.writeto(written)
    return written.getvalue()


@dataclass
class FakeLotss:
    """Both services.

    Parameters
    ----------
    fields : names of the fields
    tap_ending : "OVERFLOW" or "ERROR" after the table
    strips_zeros : checksums lose their leading zeros
    wrong_sums : fields whose published checksum is another
    absent : fields in the table without files
    """

    fields: list[str]
    tap_ending: str = ""
    strips_zeros: bool = False
    wrong_sums: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    url: str = ""
    high: dict[str, bytes] = field(default_factory=dict)
    low: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate(self.fields):
            self.high[name] = mosaic(number, name)
            self.low[name] = mosaic(100 + number, name, 16)

    def urls(self) -> dict[str, str]:
        """The part of `archives.urls` that leads here."""
        return {"lotss_tap": f"{self.url}/tap", "lotss_files": f"{self.url}/public/DR2/mosaics"}

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        # A bare sign in an address may become a blank behind some servers; only %2B is safe.
        if "+" in request.target.split("?")[0]:
            return html(404)
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["tap", "sync"]:
                return self._tap(request)
            case "GET", ["public", "DR2", "mosaics", name, "mosaic-blanked.fits"]:
                return self._file(request, self.high, name)
            case "GET", ["public", "DR2", "mosaics", name, "low-mosaic-blanked.fits"]:
                return self._file(request, self.low, name)
            case "GET", ["getproduct", "LoTSS-DR2", name]:
                return self._file(request, self.high, name)
        return html(404)

    def _file(self, request: Request, bodies: dict[str, bytes], name: str) -> Reply:
        if name not in bodies or name in self.absent:
            return html(404)
        return file(request, bodies[name], "image/fits")

    def _adler32(self, name: str) -> str:
        body = self.high[name]
        digits = f"{zlib.adler32(body[::-1] if name in self.wrong_sums else body):08x}"
        return digits.lstrip("0") if self.strips_zeros else digits

    def _tap(self, request: Request) -> Reply:
        # DaCHS takes the names of parameters in any case, their values not.
        form = {name.upper(): value for name, value in request.form.items()}
        if (form.get("REQUEST"), form.get("LANG"), form.get("FORMAT")) != (
            "doQuery",
            "ADQL",
            "votable",
        ):
            return text(document(info("ERROR", "bad request")), 400, VOTABLE)
        rows = [
            {
                "mosaic_id": name,
                "accref": f"{self.url}/getproduct/LoTSS-DR2/{quote(name, safe='')}",
                "accsize": len(self.high[name]),
                "adler32": self._adler32(name),
            }
            for name in self.fields
        ]
        try:
            names, found = run(form["QUERY"], {"lotss_dr2.mosaics": rows})
        except BadQuestionError as error:
            return text(document(info("ERROR", f"Query failed: {error}")), 400, VOTABLE)
        # 2,000 rows unless more are asked for.
        most = int(form.get("MAXREC", 2000))
        is_cut = len(found) > most or self.tap_ending == "OVERFLOW"
        body = binary_votable(names, found[:most], is_cut)
        if self.tap_ending == "ERROR":
            body = body.replace("</RESOURCE>", f"{info('ERROR', 'lost the database')}</RESOURCE>")
        return text(body, kind=VOTABLE)
