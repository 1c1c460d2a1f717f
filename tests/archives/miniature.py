"""All archives of the paper on this machine, small: what they serve, and who strikes when."""

import hashlib
import io
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from stradavit.models.stages import acquire_encoder
from stradavit.settings.encoders import Architecture, ScratchEncoder
from stradavit.settings.sources import SDC1_SHARES

from . import fake_mgcls, fake_sdc1
from .fake_casda import FakeCasda, Image
from .fake_first import first
from .fake_hub import FakeHub
from .fake_lotss import FakeLotss, mosaic
from .fake_lotss_cutouts import lotss_cutouts
from .fake_mgcls import FakeMgcls
from .fake_sdc1 import FakeSdc1
from .fake_vizier import cds
from .fake_zenodo import zenodo
from .routes import routes
from .server import App, CutError, Loopback, Reply, Request, files
from .test_doctor import adql
from .test_horton import CATALOGUE
from .test_horton import line as horton_line
from .test_horton import name as horton_name
from .test_horton import place as horton_place
from .test_mirabest import md5
from .test_mirabest import packed as mirabest_packed
from .test_rgz import CLASSES, HEADER, RECORD
from .test_rgz import line as rgz_line
from .test_rgz import packed as rgz_packed
from .test_rgz import place as rgz_place

HUB_REPO = "facebook/vit-mae-base"
LOTSS_FIELDS = ("P000+23", "P000+31", "P124+62")
N_RGZ, N_HORTON, N_MIRABEST = 36, 24, 24
N_MIRABEST_TEST = 6
RGZ_WITHOUT_IMAGE, HORTON_WITHOUT_IMAGE = 7, 5
# Answers shorter than this are never files of their own.
SMALLEST_FILE = 600


@dataclass
class Watch:
    """What the servers sent; at the chosen file it strikes when half of it is out.

    Parameters
    ----------
    sent : SHA-256 digest of each file whose last half was sent, in order
    strike_at : number of the file, from 1; 0 never
    strike : what to do then; it happens once
    """

    sent: list[str] = field(default_factory=list)
    n_begun: int = 0
    strike_at: int = 0
    strike: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def over(self, app: App) -> App:
        """`app`, watched."""

        def watched(request: Request) -> Reply:
            reply = app(request)
            body = reply.whole()
            kind = reply.headers.get("Content-Type", "")
            is_list = any(word in kind for word in ("xml", "json", "votable", "html"))
            if request.method == "HEAD" or is_list or len(body) < SMALLEST_FILE:
                return reply
            with self.lock:
                self.n_begun += 1
                is_struck = self.n_begun == self.strike_at
            headers = {**reply.headers, "Content-Length": str(len(body))}
            return replace(reply, headers=headers, body=self._pieces(body, is_struck))

        return watched

    def _pieces(self, body: bytes, is_struck: bool) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        if is_struck:
            self.strike()
            raise CutError
        # Noted before: whoever has the last byte may be killed, and be asked what he has, at once.
        with self.lock:
            self.sent.append(hashlib.sha256(body).hexdigest())
        yield body[len(body) // 2 :]


@dataclass
class World:
    """The servers, what they have, and the overlay that leads to them."""

    watch: Watch
    casda: FakeCasda
    served: Mapping[str, list[bytes]]
    overlay: dict[str, Any]


def askap_image(seed: int, centre_deg: tuple[float, float], side_px: int = 300) -> bytes:
    """Sources in noise, as ASKAPsoft writes it: float32 with four axes, 2.5 arcsec pixels."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0.0, 3e-5, (side_px, side_px))
    y, x = np.mgrid[:side_px, :side_px]
    for y0, x0 in rng.uniform(0, side_px, (60, 2)):
        flux = 2e-4 * (1 + rng.pareto(1.2))
        pixels += flux * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 12.0)
    hdu = fits.PrimaryHDU(pixels[None, None].astype(">f4"))
    for axis, (kind, step) in enumerate((("RA---SIN", -2.5), ("DEC--SIN", 2.5))):
        hdu.header[f"CTYPE{axis + 1}"], hdu.header[f"CDELT{axis + 1}"] = kind, step / 3600
        hdu.header[f"CRPIX{axis + 1}"], hdu.header[f"CRVAL{axis + 1}"] = (
            (side_px + 1) / 2,
            centre_deg[axis],
        )
    hdu.header["BUNIT"] = "Jy/beam"
    written = io.BytesIO()
    hdu.writeto(written)
    return written.getvalue()


def askap_images() -> list[Image]:
    """Three to take, the first around the first source of RGZ; and what must be left."""
    centres = (rgz_place(0), (20.0, -60.0), (21.0, -60.0), (22.0, -60.0))
    bodies = [askap_image(number, centre) for number, centre in enumerate(centres)]

    def image(number: int, **changes: Any) -> Image:
        name = f"image.i.EMU_{number}.SB{number}.cont.taylor.0.restored.conv.fits"
        return Image(f"cube-{number + 1}", **({"filename": name, "body": bodies[number]} | changes))

    return [
        *(image(number) for number in range(3)),
        image(3, quality="REJECTED"),
        replace(image(3, released="2099-01-01T00:00:00Z"), identifier="cube-5"),
        replace(image(3, filename="image.i.EMU.taylor.1.fits"), identifier="cube-6"),
    ]


def vit_mae(folder: Path) -> dict[str, bytes]:
    """A tiny ViT-MAE in the Hugging Face layout, by file name."""
    shape = Architecture(
        image_px=32,
        patch_px=8,
        width=32,
        layers=2,
        heads=4,
        mlp_width=64,
        decoder_width=32,
        decoder_layers=1,
        decoder_heads=4,
        decoder_mlp_width=64,
    )
    acquire_encoder("tiny", ScratchEncoder(source="scratch", architecture=shape), 1, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def mirabest_batches(side_px: int = 24) -> dict[str, bytes]:
    """Two pickled batches, for training and testing; two classes of sources: one blob, or two."""
    rng = np.random.default_rng(3)
    labels = [number % 2 for number in range(N_MIRABEST)]
    y, x = np.mgrid[:side_px, :side_px]
    images = rng.integers(0, 20, (N_MIRABEST, side_px, side_px)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        for x0 in (8, 16) if label else (12,):
            image += (200 * np.exp(-((y - 12) ** 2 + (x - x0) ** 2) / 6.0)).astype(np.uint8)
    names = [f"100_{200 + n:07.3f}_+{10 + n:07.3f}_0.1.png" for n in range(N_MIRABEST)]
    flat = images.reshape(N_MIRABEST, -1)
    batches = {}
    of_batch = {"data_batch_1": slice(N_MIRABEST_TEST, None), "test_batch": slice(N_MIRABEST_TEST)}
    for name, some in of_batch.items():
        content = {"data": flat[some], "labels": labels[some], "filenames": names[some]}
        batches[name] = pickle.dumps({**content, "batch_label": name}, 4)
    return batches


def rgz_table() -> bytes:
    """Sources of all six classes."""
    rows = [rgz_line(number, CLASSES[number % 6]) for number in range(N_RGZ)]
    return "\r\n".join([HEADER, *rows, ""]).encode()


def horton_table() -> list[str]:
    """Sources of all five classes."""
    return [
        horton_line(horton_name(number), (number % 5,), 0.05, 500.0 + 20.0 * number)
        for number in range(N_HORTON)
    ]


@contextmanager
def world() -> Iterator[World]:
    """All archives, each a server of its own."""
    watch = Watch()
    objects = fake_mgcls.sample(192)
    casda = FakeCasda(askap_images())
    lotss = FakeLotss(list(LOTSS_FIELDS))
    lotss.high |= {name: mosaic(k, name, 300) for k, name in enumerate(LOTSS_FIELDS)}
    shares = fake_sdc1.sample(256)
    with tempfile.TemporaryDirectory() as folder:
        hub = FakeHub(files=vit_mae(Path(folder)), repo=HUB_REPO)
    batches = mirabest_batches()
    mirabest_tar = mirabest_packed(batches)
    archive = {"RGZ_DR1_tables.tar.gz": rgz_packed(rgz_table())}
    apps: dict[str, App] = {
        "mgcls": FakeMgcls(objects),
        "casda": adql(casda),
        "lotss": lotss,
        "sdc1": FakeSdc1(shares),
        "zenodo": zenodo(RECORD, archive),
        "first": first(
            # The second is where the doctor looks for a place without data.
            {rgz_place(RGZ_WITHOUT_IMAGE): "no_data", (162.5, -60.0): "no_data"}
        ),
        "horton": routes(
            {
                "/ftp/": cds(CATALOGUE, {"catalog.dat": horton_table()}),
                "/dr2-": lotss_cutouts(
                    {
                        horton_place(HORTON_WITHOUT_IMAGE): "no_coverage",
                        (0.0, -60.0): "no_coverage",
                    }
                ),
            }
        ),
        "hub": hub,
        "mirabest": files({"/MiraBest_F/MiraBest_F_batches.tar.gz": mirabest_tar}),
    }
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(Loopback(watch.over(app))) for name, app in apps.items()
        }
        url = {name: server.url for name, server in servers.items()}
        casda.url, lotss.url = url["casda"], url["lotss"]
        urls = {
            **casda.urls(),
            **lotss.urls(),
            "mgcls": f"{url['mgcls']}/public",
            "sdc1": f"{url['sdc1']}/index.php/s",
            "zenodo": url["zenodo"],
            "first": f"{url['first']}/cgi-bin/firstcutout",
            "cds": f"{url['horton']}/ftp",
            "lotss_cutouts": url["horton"],
            "hub": url["hub"],
            "mirabest": url["mirabest"],
        }
        sizes = {name: len(shares[token][1]) for name, token in SDC1_SHARES.items()}
        of_batches = {name: md5(raw) for name, raw in batches.items()}
        digests = {"F": {"archive": md5(mirabest_tar), **of_batches}}
        overlay = {
            "archives": {"urls": urls},
            "surveys": {"sdc1": {"bytes": sizes}},
            "benchmarks": {"mirabest": {"digests": digests}},
        }
        served = {
            "mgcls": [body for key, body in objects.items() if "_5pln_" in key],
            "askap": [image.body for image in casda.images[:3]],
            "lotss": [lotss.high[name] for name in LOTSS_FIELDS],
            "sdc1": [shares[token][1] for token in SDC1_SHARES.values()],
        }
        yield World(watch, casda, served, overlay)
