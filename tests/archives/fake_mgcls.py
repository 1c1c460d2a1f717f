"""A small MGCLS: an object store with listings of either version and files of every known name."""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from io import BytesIO

import numpy as np
from astropy.io import fits

from stradavit.acquire.archives.mgcls import DATA_PREFIX, FOLDERS

from .server import Reply, Request, file, text

BUCKET = "/public/"
PIXEL_DEG = 1.25 / 3600.0
PLANES = {"5pln": 5, "fcube": 12, "basic": 16, "1pln": 1}


class FakeMgcls:
    """The store; an app for `Loopback`.

    Parameters
    ----------
    objects : bytes by key, below `BUCKET`
    page_keys : most keys a page of a listing has
    listing : v2: as documented; v1: `list-type` is ignored; v1-strict: it is refused; no-marker:
        as v1, without NextMarker
    gone : keys that are listed and answered with 404 NoSuchKey
    slow_down : first requests of objects that are answered with 503 SlowDown
    is_encoding_told : objects ending in .gz are sent with Content-Encoding, as some stores do
    """

    def __init__(
        self,
        objects: Mapping[str, bytes],
        page_keys: int = 1000,
        listing: str = "v2",
        gone: frozenset[str] = frozenset(),
        slow_down: int = 0,
        is_encoding_told: bool = False,
    ) -> None:
        self.objects = dict(objects)
        self.page_keys = page_keys
        self.listing = listing
        self.gone = gone
        self.slow_down = slow_down
        self.is_encoding_told = is_encoding_told

    def __call__(self, request: Request) -> Reply:
        if not request.path.startswith(BUCKET):
            return error("NoSuchBucket", "The specified bucket does not exist.", 404)
        key = request.path.removeprefix(BUCKET)
        return self._object(request, key) if key else self._list(request)

    def _object(self, request: Request, key: str) -> Reply:
        if self.slow_down:
            self.slow_down -= 1
            return error("SlowDown", "Please reduce your request rate.", 503)
        if key not in self.objects or key in self.gone:
            return error("NoSuchKey", "The specified key does not exist.", 404)
        reply = file(request, self.objects[key], "application/octet-stream")
        headers = dict(reply.headers) | {"ETag": etag(key, self.objects[key])}
        if self.is_encoding_told and key.endswith(".gz"):
            headers["Content-Encoding"] = "gzip"
        return Reply(reply.status, headers, reply.body)

    def _list(self, request: Request) -> Reply:
        query = {name: values[-1] for name, values in request.query.items()}
        is_v2 = query.get("list-type") == "2" and self.listing == "v2"
        if "list-type" in query and self.listing == "v1-strict":
            return error("InvalidArgument", "Unknown parameter list-type", 400)
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        if is_v2:
            after = base64.b64decode(query.get("continuation-token", "")).decode()
        else:
            after = query.get("marker", "")
        left = [key for key in keys if key > after]
        page = left[: min(self.page_keys, int(query.get("max-keys", "1000")))]
        is_truncated = len(left) > len(page)
        parts = [
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
            f"<Name>public</Name><Prefix>{escape(prefix)}</Prefix>",
            f"<MaxKeys>{query.get('max-keys', '1000')}</MaxKeys>",
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>",
        ]
        if is_v2:
            parts.append(f"<KeyCount>{len(page)}</KeyCount>")
        if is_truncated and is_v2:
            # With '+', '/' and '=' in it, as real ones have.
            token = base64.b64encode(page[-1].encode()).decode()
            parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        if is_truncated and not is_v2 and self.listing != "no-marker":
            parts.append(f"<NextMarker>{escape(page[-1])}</NextMarker>")
        for key in page:
            parts.append(
                f"<Contents><Key>{escape(key)}</Key>"
                "<LastModified>2021-11-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(etag(key, self.objects[key]))}</ETag>"
                f"<Size>{len(self.objects[key])}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        return text("".join([*parts, "</ListBucketResult>"]), kind="application/xml")


def error(code: str, message: str, status: int) -> Reply:
    """An S3 error document."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message><RequestId>tx0</RequestId></Error>"
    )
    return text(body, status, "application/xml")


def etag(key: str, body: bytes) -> str:
    """Packed objects came in pieces, as large ones do: their ETag is no digest of the file."""
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return f'"{digest}-17"' if key.endswith(".gz") else f'"{digest}"'


@cache
def cube(kind: str, seed: int, side_px: int) -> bytes:
    """A FITS file of (1, planes, side, side) float32 with blank corners, as Obit writes them."""
    rng = np.random.default_rng(seed)
    n_planes = PLANES[kind]
    data = rng.normal(0.0, 4e-6, (1, n_planes, side_px, side_px)).astype(np.float32)
    y, x = np.mgrid[:side_px, :side_px] - 0.5 * (side_px - 1)
    for _ in range(max(3, side_px**2 // 4000)):
        y0, x0 = rng.uniform(-0.45, 0.45, 2) * side_px
        flux = 2e-5 * rng.pareto(1.2) + 2e-5
        data += np.float32(flux) * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 18.0, dtype=np.float32)
    # A circle that leaves the corners out.
    data[..., np.hypot(y, x) > 0.66 * side_px] = np.nan
    header = fits.Header()
    declination = -20.0 - seed % 30
    for axis, (kind_of_axis, value, step, pixel) in enumerate(
        [
            ("RA---SIN", float(seed * 37 % 360), -PIXEL_DEG, side_px / 2),
            ("DEC--SIN", declination, PIXEL_DEG, side_px / 2),
            ("SPECLNMF", 1.28e9, 8.0e8, 1.0),
            ("STOKES", 1.0, 1.0, 1.0),
        ],
        start=1,
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind_of_axis, value
        header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = step, pixel
    header["BUNIT"] = "JY/BEAM"
    header["BMAJ"], header["BMIN"], header["BPA"] = 15.0 / 3600.0, 15.0 / 3600.0, 0.0
    header["NTERM"], header["NSPEC"] = 2, n_planes if kind == "fcube" else 14
    for number in range(header["NSPEC"]):
        header[f"FREQ{number + 1:04d}"] = 8.9e8 + 6.1e7 * number * (1 + 0.02 * number)
        header[f"FREL{number + 1:04d}"] = header[f"FREQ{number + 1:04d}"] - 2e7
        header[f"FREH{number + 1:04d}"] = header[f"FREQ{number + 1:04d}"] + 2e7
    hdus = fits.HDUList([fits.PrimaryHDU(data, header)])
    out = BytesIO()
    hdus.writeto(out)
    return out.getvalue()


def packed(body: bytes) -> bytes:
    """Gzip-packed, the same each time."""
    return gzip.compress(body, compresslevel=1, mtime=0)


# Clusters whose names begin alike, irregular spellings that the archive really has, and full
# polarisation for one.
ENHANCED_STEMS = (
    "Abell_13_noFix_pol_I_{resolution}_{kind}_cor.fits.gz",
    "Abell_133_aFix_pol_I_{resolution}_{kind}_cor.fits.gz",
    "Abell_370_afix_pol_I_{resolution}_{kind}_cor.fits.gz",
    "MACSJ_0025.4-1222B_aFix_pol_I_{resolution}_{kind}_cor.fits.gz",
    "RXCJ0510.7-0801_aFix_Pol_I_{resolution}_{kind}_cor.fits.gz",
    "Abell_85_aFix_pol_I_{resolution}_{kind}_cor.fits",
    "Abell_85_aFix_pol_Q_{resolution}_{kind}_cor.fits",
    "Abell_85_aFix_pol_U_{resolution}_{kind}_cor.fits",
    "Abell_85_aFix_pol_V_{resolution}_{kind}_cor.fits",
)
BASIC_NAMES = (
    "Abell_85.fits",
    "Abell_85.1pln.fits.gz",
    "Abell_168.1pln.fits.gz",
    "Abell_168.1pln.fits",
    "Abell_2811.1pln.fits.gz",
    "Abell_2811B.1pln.fits.gz",
    "Abell_4038.Fix.1pln.fits.gz",
    "J0232.2-4420.Fix.1pln.fits.gz",
    "Bullet.APSCal.1pln.fits.gz",
    "Abell_13.fits.gz",
    "Abell_13.QPoln.fits.gz",
    "Abell_133.Peel.fits.gz",
    "Abell_133.SNTab.fits.gz",
)


def sample(side_px: int = 64) -> dict[str, bytes]:
    """Objects of all three folders, and what lies beside the images."""
    objects = {
        f"{DATA_PREFIX}Table1_MGCLS_targets.csv": b"ClusterName ,RA,Dec\nAbell 13,3.38,-19.5\n",
        f"{FOLDERS['basic']}index.html": b"<!DOCTYPE html><html></html>\n",
        f"{DATA_PREFIX}enhanced_products/bucket_contents.html": b"<html></html>\n",
    }
    number = 0
    for kind in ("5pln", "fcube"):
        for stem in ENHANCED_STEMS:
            for resolution in ("15arcsec", "Farcsec"):
                number += 1
                name = stem.format(kind=kind, resolution=resolution)
                body = cube(kind, number, side_px)
                objects[FOLDERS[kind] + name] = packed(body) if name.endswith(".gz") else body
    for name in BASIC_NAMES:
        number += 1
        body = cube("1pln" if ".1pln." in name else "basic", number, side_px)
        objects[FOLDERS["basic"] + name] = packed(body) if name.endswith(".gz") else body
    return objects
