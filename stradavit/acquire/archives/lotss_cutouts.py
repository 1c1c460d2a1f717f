"""Cutouts of LoTSS DR2 (LOFAR, 144 MHz, 6 arcsec) from lofar-surveys.org.

Plain requests: no library knows this service.
"""

from pathlib import Path

from stradavit.acquire.archives.cutout_files import MAX_FILE_BYTES, check_image
from stradavit.acquire.transfer.fetch import Remote
from stradavit.settings.archives import ArchiveUrls

# A larger one is answered with a page.
MAX_ARCMIN = 120.0
NO_DATA = "suitable mosaic"

# How refusals begin that mean so.
NO_COVERAGE = ("no data", "came as a page in HTML")


def lotss_cutout(
    urls: ArchiveUrls,
    name: str,
    position: str,
    position_deg: tuple[float, float],
    size_arcmin: float,
) -> Remote:
    """What to ask for one cutout.

    Parameters
    ----------
    name : file name to keep it under
    position : right ascension and declination with a blank between them, in degrees or as
        hh:mm:ss.ss ±dd:mm:ss.s; with a comma between them the server answers with a page
    position_deg : the same, to see that the image shows the place
    size_arcmin : side
    """

    def check(path: Path) -> str | None:
        return check_image(path, position_deg, None)

    return Remote(
        name=name,
        url=f"{urls.lotss_cutouts}/dr2-cutout.fits",
        content="fits",
        params=(("pos", position), ("size", f"{size_arcmin:.4f}")),
        # Where there is no coverage the answer is a page with the status 200. Its words may
        # change: a page of other words is asked for twice, and then means the same.
        no_data=NO_DATA,
        verify=check,
        most_bytes=MAX_FILE_BYTES,
    )
