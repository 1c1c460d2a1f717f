"""Cutouts of the FIRST survey (VLA, 1.4 GHz), as the server at STScI makes them.

astroquery.image_cutouts.first is not used: it keeps error pages in its cache, sends no agent with
a contact, and cannot be pointed at another server.
"""

from pathlib import Path

from stradavit.acquire.archives.cutout_files import MAX_FILE_BYTES, check_image
from stradavit.acquire.transfer.fetch import Remote
from stradavit.settings.archives import ArchiveUrls

PIXEL_ARCSEC = 1.8
MAX_PX = 1024
NO_DATA = "no first data"


def first_cutout(
    urls: ArchiveUrls,
    name: str,
    position_deg: tuple[float, float],
    size_arcmin: float,
    centre_tolerance_arcmin: float,
) -> Remote:
    """What to ask for one cutout; cut from the survey's map without resampling.

    Parameters
    ----------
    name : file name to keep it under
    position_deg : right ascension and declination, J2000
    size_arcmin : side; the server rounds to pixels, and gives 1024 of them at most
    centre_tolerance_arcmin : an image whose centre is farther off is refused: the source lies at
        the edge of a map, and the cutout beside it
    """
    ra_deg, dec_deg = position_deg

    def check(path: Path) -> str | None:
        return check_image(path, position_deg, centre_tolerance_arcmin)

    return Remote(
        name=name,
        url=urls.first,
        # Some files end with the last pixel, without the padding that FITS wants.
        content="fits",
        form=(
            # Right ascension is in hours.
            ("RA", f"{ra_deg / 15.0:.8f} {dec_deg:+.7f}"),
            ("Equinox", "J2000"),
            ("ImageSize", f"{size_arcmin:.4f}"),
            ("ImageType", "FITS File"),
            ("MaxImSize", str(MAX_PX)),
        ),
        # Sent with the status 200, in a page.
        no_data=NO_DATA,
        verify=check,
        most_bytes=MAX_FILE_BYTES,
    )
