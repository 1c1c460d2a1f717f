"""The cutout server of FIRST."""

from .fake_images import Mood, image_around, near
from .server import App, Reply, Request, html, text

PATH = "/cgi-bin/firstcutout"
NO_DATA = "<html><body><h2>No FIRST data is available at the specified position</h2></body></html>"
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"


def first(moods: dict[tuple[float, float], Mood] | None = None) -> App:
    """Images everywhere, but for `moods` by position in degrees; see `image_around`, and no_data.

    As in life, some files end without padding: those of odd side here.
    """

    def app(request: Request) -> Reply:
        if request.path != PATH or request.method != "POST":
            return html(404)
        form = request.form
        if form.get("Equinox") != "J2000" or form.get("ImageType") not in ("FITS File", "GIF"):
            return html()
        if form["ImageType"] == "GIF":
            return Reply(200, {"Content-Type": "image/gif"}, GIF)
        hours, dec = (float(part) for part in form["RA"].split())
        assert 0 <= hours < 24, "the server reads right ascension in hours"
        position = 15 * hours, dec
        mood = near(position, moods or {})
        if mood == "no_data":
            return text(NO_DATA, kind="text/html")
        if mood == "gif":
            return Reply(200, {"Content-Type": "image/gif"}, GIF)
        side_px = min(round(float(form["ImageSize"]) * 60 / 1.8), int(form["MaxImSize"]))
        body = image_around(position, side_px, 1.8, mood or ("unpadded" if side_px % 2 else ""))
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": "attachment; filename=J000000+000000.fits",
        }
        return Reply(200, headers, body)

    return app
