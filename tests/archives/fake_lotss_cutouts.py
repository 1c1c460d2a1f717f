"""The cutout service of LoTSS: what it cannot do, it says in a page with the status 200."""

import re

from .fake_images import Mood, image_around, near
from .server import App, Reply, Request, html, text

PATH = "/dr2-cutout.fits"
NO_COVERAGE = "<html><body><h3>Sorry: no suitable mosaic was found.</h3></body></html>"
SEXAGESIMAL = re.compile(r"(\d\d):(\d\d):(\d\d(?:\.\d+)?) ([+-])(\d\d):(\d\d):(\d\d(?:\.\d+)?)")
DEGREES = re.compile(r"(\d+(?:\.\d+)?) ([+-]?\d+(?:\.\d+)?)")
ARCSEC = 30.0


def lotss_cutouts(moods: dict[tuple[float, float], Mood] | None = None) -> App:
    """Images everywhere, but for `moods` by position in degrees; see `image_around`, and
    no_coverage. Pixels are twenty times as large as the real ones."""

    def app(request: Request) -> Reply:
        if request.path != PATH:
            return html(404)
        query = request.query
        position = _position(query["pos"][0])
        size_arcmin = float(query["size"][0])
        if position is None or size_arcmin > 120:
            return html()
        mood = near(position, moods or {})
        if mood == "no_coverage":
            return text(NO_COVERAGE, kind="text/html")
        side_px = max(round(size_arcmin * 60 / ARCSEC), 2)
        body = image_around(position, side_px, ARCSEC, mood, "LOFAR")
        return Reply(200, {"Content-Type": "application/fits"}, body)

    return app


def _position(text: str) -> tuple[float, float] | None:
    """Neither a comma nor a sign that became a blank on its way is understood."""
    if found := SEXAGESIMAL.fullmatch(text):
        h, m, s, sign, d, arcmin, arcsec = found.groups()
        dec = int(d) + int(arcmin) / 60 + float(arcsec) / 3600
        ra = 15 * (int(h) + int(m) / 60 + float(s) / 3600)
        return ra, -dec if sign == "-" else dec
    if found := DEGREES.fullmatch(text):
        return float(found[1]), float(found[2])
    return None
