"""Where the sources of a truth catalogue lie in a product, how large and how bright they appear."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stradavit.acquire.truth_catalogue import SIZE_EXPONENTIAL, SIZE_LAS, read_truth
from stradavit.cutouts.product import Product
from stradavit.cutouts.sky import Floats, angle, unit_vectors
from stradavit.errors import DataError

ARCSEC = math.pi / (180 * 3600)
# Axis ratio of an exponential disc and of the Gaussian that the challenge's scorer takes for it.
EXPONENTIAL_TO_GAUSS = math.sqrt(2.0)
# Of a Gaussian: area over the product of its full widths at half maximum.
GAUSS_AREA = math.pi / (4.0 * math.log(2.0))


class ProductSky:
    """The sky of a product: its WCS, beam and pixels, all of which truth needs.

    Attributes
    ----------
    beam_arcsec : full width at half maximum of the round beam of the same area
    beam_area_px : area of the beam, so that flux in Jy = sum of Jy/beam over it
    px_per_arcsec : (2, 2) pixels x, y of a step to the east and to the north, at the reference
        point; elsewhere in the projection the difference is a small part of a box

    Raises
    ------
    DataError
        If the product has no equatorial WCS or no beam.
    """

    def __init__(self, product: Product, name: str) -> None:
        if product.wcs is None or product.wcs.wcs.lngtyp != "RA":
            raise DataError(
                f"{name}: its header has no right ascension and declination; expected them, to "
                "find the sources of its truth catalogue. Leave it out of the detection set."
            )
        if product.beam_arcsec is None or product.pixel_scale_arcsec is None:
            raise DataError(
                f"{name}: its header has no beam or no pixel scale; expected BMAJ, BMIN and CDELT, "
                "to tell how large its sources appear. Leave it out of the detection set."
            )
        self.wcs = product.wcs
        self.shape = product.shape
        self.scale_arcsec = product.pixel_scale_arcsec
        # The reader gives no position angle of the beam; SDC1's and the drawn ones are round.
        self.beam_arcsec = math.sqrt(math.prod(product.beam_arcsec))
        self.beam_area_px = GAUSS_AREA * math.prod(product.beam_arcsec) / self.scale_arcsec**2
        self.px_per_arcsec = np.linalg.inv(np.asarray(self.wcs.pixel_scale_matrix)) / 3600.0
        ny, nx = product.shape
        x = np.array([0.5 * nx, 0.0, nx, nx, 0.0]) - 0.5
        y = np.array([0.5 * ny, 0.0, 0.0, ny, ny]) - 0.5
        corners = unit_vectors(np.stack(self.to_sky(x, y), axis=-1))
        self._centre = corners[0]
        self._radius = float(angle(corners[:1], corners[1:]).max())

    def to_sky(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Right ascension in [0, 360) and declination, deg, of pixels; centres are whole."""
        ra, dec = self.wcs.all_pix2world(x, y, 0)
        return np.asarray(ra) % 360.0, np.asarray(dec)

    def to_pixels(self, ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
        """Pixels x, y of positions near the product; centres of pixels are whole numbers."""
        x, y = self.wcs.all_world2pix(ra_deg, dec_deg, 0)
        return np.asarray(x), np.asarray(y)

    def is_near(self, rows: NDArray[np.void]) -> NDArray[np.bool_]:
        """(n,) which sources may reach into the product; the others may lie behind the sky."""
        at = unit_vectors(np.stack([rows["ra_cent"], rows["dec_cent"]], axis=-1))
        reach = self._radius + ARCSEC * (2.0 * rows["b_maj"].astype(np.float64) + self.beam_arcsec)
        near: NDArray[np.bool_] = angle(self._centre, at) <= reach
        return near


def read_near(path: Path, sky: ProductSky) -> tuple[NDArray[np.void], int]:
    """The rows of a truth catalogue that may reach into a product, and how many there are in all.

    Raises
    ------
    DataError
        If the catalogue cannot be read or none of its sources lies on the product.
    """
    n_rows = 0

    def keep(rows: NDArray[np.void]) -> NDArray[np.bool_]:
        nonlocal n_rows
        n_rows += len(rows)
        return sky.is_near(rows)

    rows = read_truth(path, keep)
    if not len(rows):
        raise DataError(
            f"{path}: none of its {n_rows} sources lies on the product it belongs to. Name the "
            "right catalogue in the detection set's truth."
        )
    return rows, n_rows


def shapes(rows: NDArray[np.void], beam_arcsec: float) -> Floats:
    """Squared full widths of sources as they appear, (n, 2, 2) arcsec², axes east and north.

    S = R diag(a², b²) Rᵀ + beam² 1, where R turns the east by `pa` towards the north (clockwise in
    the image) and a, b are `b_maj`, `b_min`: full widths at half maximum, of exponential discs √2
    times the catalogue's, as the challenge's scorer converts them. The largest angular size of an
    AGN is no width but its whole extent, and is taken as it is: its box then holds its lobes.
    """
    k = np.where(rows["size"] == SIZE_EXPONENTIAL, EXPONENTIAL_TO_GAUSS, 1.0)
    major, minor = (k * rows[name].astype(np.float64) for name in ("b_maj", "b_min"))
    pa = np.radians(rows["pa"].astype(np.float64))
    turn = np.stack([np.cos(pa), -np.sin(pa), np.sin(pa), np.cos(pa)], axis=-1).reshape(-1, 2, 2)
    squares = np.stack([major, minor], axis=-1) ** 2
    result: Floats = turn * squares[:, None, :] @ turn.transpose(0, 2, 1)
    return result + beam_arcsec**2 * np.eye(2)


def truth_boxes(rows: NDArray[np.void], sky: ProductSky, min_box_px: float) -> Floats:
    """Boxes (n, 4) x0, y0, x1, y1 of sources, half-open, in pixels of the product.

    The box is the one around the ellipse of half maximum of the source convolved with the beam:
    with S of `shapes` and J of `px_per_arcsec`, its sides are √(J S Jᵀ)ₓₓ and √(J S Jᵀ)ᵧᵧ, none
    below `min_box_px`. Its middle is the centroid; the middle of the first pixel is at 0.5, 0.5.
    """
    x, y = sky.to_pixels(rows["ra_cent"], rows["dec_cent"])
    squares = sky.px_per_arcsec @ shapes(rows, sky.beam_arcsec) @ sky.px_per_arcsec.T
    sides = np.sqrt(np.diagonal(squares, axis1=1, axis2=2))
    half = 0.5 * np.maximum(sides, min_box_px)
    middle = np.stack([x, y], axis=-1) + 0.5
    boxes: Floats = np.concatenate([middle - half, middle + half], axis=1)
    return boxes


def highest_peaks(rows: NDArray[np.void], sky: ProductSky) -> Floats:
    """The most that the peaks of sources can be, (n,) Jy/beam.

    flux × beam² / √det S (`shapes`): the peak where the primary beam has its full gain, which the
    catalogue does not know; elsewhere it is lower. The flux of an AGN with a largest angular size
    may all come from a spot, so there it is the flux itself.
    """
    flux = rows["flux"].astype(np.float64)
    area = np.sqrt(np.linalg.det(shapes(rows, sky.beam_arcsec)))
    peaks: Floats = np.where(rows["size"] == SIZE_LAS, flux, flux * sky.beam_arcsec**2 / area)
    return peaks


def as_slices(box: Floats, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box touches, within an image (ny, nx)."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    ny, nx = shape
    rows = slice(max(0, math.floor(y0)), min(ny, math.ceil(y1)))
    return rows, slice(max(0, math.floor(x0)), min(nx, math.ceil(x1)))


def background_and_noise(pixels: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The median, and 1.4826 × the median distance from it: the deviation of normal noise."""
    background = float(np.median(pixels))
    return background, 1.4826 * float(np.median(np.abs(pixels - background)))
