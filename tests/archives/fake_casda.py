"""CASDA on this machine: TAP, DataLink behind a login, staging jobs, links, checksum files."""

import base64
import hashlib
import io
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from astropy.io import fits

from .fake_tap import BadQuestionError, document, info, run, table
from .server import Reply, Request, file, html, text

USER, PASSWORD = "someone@example.org", "opal-pass-phrase"
SIGNATURE = "deadbeef1234567890"
VOTABLE = "application/x-votable+xml"
UWS = 'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
USUAL = ("QUEUED", "EXECUTING", "COMPLETED")
DAY = "2099-01-01T00:00:00.000+0000"


def fits_image(seed: int, side_px: int = 24) -> bytes:
    """An image as ASKAPsoft writes it: float32 with four axes."""
    pixels = np.random.default_rng(seed).normal(size=(1, 1, side_px, side_px)).astype(">f4")
    hdu = fits.PrimaryHDU(pixels)
    for axis, (name, step) in enumerate((("RA---SIN", -7e-4), ("DEC--SIN", 7e-4)), 1):
        hdu.header[f"CTYPE{axis}"], hdu.header[f"CDELT{axis}"] = name, step
        hdu.header[f"CRPIX{axis}"], hdu.header[f"CRVAL{axis}"] = (
            side_px / 2,
            30.0 - 60.0 * axis % 90,
        )
    hdu.header["BUNIT"] = "Jy/beam"
    written = io.BytesIO()
    hdu.writeto(written)
    return written.getvalue()


@dataclass
class Image:
    """One row of ObsCore and its file."""

    identifier: str
    filename: str
    body: bytes
    collection: str = "EMU"
    quality: str = "GOOD"
    released: str = "2023-08-02T03:51:19.728Z"
    subtype: str = "cont.restored.t0"

    @property
    def token(self) -> str:
        """What DataLink gives out for it."""
        return f"tok-{self.identifier}-{hashlib.sha256(self.identifier.encode()).hexdigest()[:12]}"


@dataclass
class Job:
    """A staging job: the phases it will go through, and how its links look."""

    images: list[Image]
    script: list[str]
    phase: str = "PENDING"
    is_gone: bool = False
    links_expired: bool = False
    destruction: str = DAY


@dataclass
class FakeCasda:
    """The archive; every attribute after the first is something it may do wrong.

    Parameters
    ----------
    images : what it holds
    scripts : phases of each new job in turn, after PENDING; the last one holds for all further
    bad_in_jobs : identifiers that make any job they are in end in ERROR
    denied, absent : identifiers without permission, or unknown to DataLink
    wrong_sums, without_sums, odd_sums : identifiers with a wrong, no, or a senseless checksum file
    trapped : identifiers whose download is a text that tells of an exception
    expired : how many jobs, from the first, give links that are no longer good
    not_brought : identifiers a completed job has no link for
    is_signed : links are pre-signed addresses of another server
    tap_ending : what stands after the table: "", "OVERFLOW" or "ERROR"
    """

    images: list[Image]
    scripts: list[Sequence[str]] = field(default_factory=lambda: [USUAL])
    bad_in_jobs: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    wrong_sums: set[str] = field(default_factory=set)
    without_sums: set[str] = field(default_factory=set)
    odd_sums: set[str] = field(default_factory=set)
    trapped: set[str] = field(default_factory=set)
    not_brought: set[str] = field(default_factory=set)
    expired: int = 0
    is_signed: bool = False
    is_available: bool = True
    takes_jobs: bool = True
    knows_login: bool = True
    tap_ending: str = ""
    password: str = PASSWORD
    jobs: dict[str, Job] = field(default_factory=dict)
    url: str = ""

    def urls(self) -> dict[str, str]:
        """The part of `archives.urls` that leads here."""
        return {
            "casda_tap": f"{self.url}/tap",
            "casda_login": f"{self.url}/proxy",
            "casda_data": f"{self.url}/data",
        }

    def secrets(self) -> list[str]:
        """What must not be seen anywhere."""
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        tokens = [image.token for image in self.images]
        return [PASSWORD, basic, SIGNATURE, *tokens, *self.jobs]

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        steps = request.path.strip("/").split("/")
        match request.method, steps:
            case "POST", ["tap", "sync"]:
                return self._tap(request)
            case "GET", ["proxy", "tap", "availability"]:
                return self._unauthorised(request) or self._availability()
            case "GET", ["proxy", "datalink", "links"]:
                identifier = request.query.get("ID", [""])[0]
                if not self.knows_login:
                    return self._datalink_without_login(identifier)
                return self._unauthorised(request) or self._datalink(identifier)
            case "POST", ["data", "async"]:
                return self._create(request)
            case "POST", ["data", "async", job_id, "phase"]:
                return self._run(request, job_id)
            case "GET", ["data", "async", job_id]:
                return self._describe(request, job_id)
            case "GET", ["download", "web", job_id, name]:
                return self._download(request, job_id, name)
            case "GET", ["signed", *_]:
                return self._download_signed(request)
        return html(404)

    # -- TAP ----------------------------------------------------------------------------------

    def _tap(self, request: Request) -> Reply:
        form = request.form
        if form.get("request") != "doQuery":
            return _fault("UsageFault: Request parameter must be doQuery")
        if form.get("lang") not in ("ADQL", "ADQL-2.0") or form.get("format") != "votable":
            return _fault("UsageFault: unsupported lang or format")
        obscore = [
            {
                "obs_publisher_did": image.identifier,
                "filename": image.filename,
                "access_estsize": -(-len(image.body) // 1024),
                "quality_level": image.quality,
                "obs_release_date": image.released,
                "obs_collection": image.collection,
                "dataproduct_subtype": image.subtype,
                "pol_states": "/I/",
            }
            for image in self.images
        ]
        projects = [
            {"short_name": "EMU", "opal_code": "AS201"},
            {"short_name": "The Rapid ASKAP Continuum Survey", "opal_code": "AS110"},
        ]
        try:
            found = run(form["query"], {"ivoa.obscore": obscore, "casda.project": projects})
        except BadQuestionError as error:
            return _fault(f"UsageFault: {error}")
        ending = {"": "", "OVERFLOW": info("OVERFLOW"), "ERROR": info("ERROR", "FatalFault: lost")}
        content = info("OK", "Successful query") + table(*found) + ending[self.tap_ending]
        return text(document(content), kind=VOTABLE)

    # -- login and DataLink -------------------------------------------------------------------

    def _unauthorised(self, request: Request) -> Reply | None:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        if request.headers.get("authorization") == f"Basic {expected}":
            return None
        return Reply(401, {"WWW-Authenticate": 'Basic realm="ATNF OPAL Login"'}, b"")

    def _availability(self) -> Reply:
        body = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            '<availability xmlns="http://www.ivoa.net/xml/VOSIAvailability/v1.0">'
            f"<available>{str(self.is_available).lower()}</available>"
            "<upSince>2022-04-07T11:11:40.006Z</upSince><note>back on Monday</note></availability>"
        )
        return text(body, kind="application/xml")

    def _datalink(self, identifier: str) -> Reply:
        image = next((each for each in self.images if each.identifier == identifier), None)
        if image is None or identifier in self.absent:
            return _links([_error_row(identifier, f"NotFoundFault: {identifier} cannot be found")])
        if identifier in self.denied:
            said = "DefaultFault: Sorry, but you do not have permission to access this data product"
            return _links([_error_row(identifier, said)])
        size, token = str(len(image.body)), image.token
        sync = f"{self.url}/data/sync?id={token}"

        def row(url: str, service: str, meaning: str, size: str, token: str) -> list[str]:
            return [identifier, url, service, "", "x", meaning, "application/fits", size, token]

        return _links(
            [
                row(sync, "", "#this", size, ""),
                row(sync.replace("/sync", "/sync/pawsey"), "", "#this", size, ""),
                row("", "async_service", "#this", size, token),
                row("", "pawsey_async_service", "#this", size, token),
                row("", "cutout_service", "#cutout", "", token),
                row("", "spectrum_generation_service", "#proc", "", token),
            ],
            f"{self.url}/data/async",
        )

    def _datalink_without_login(self, identifier: str) -> Reply:
        url = f"{self.url}/proxy/datalink/links?ID={identifier}"
        kind = f"{VOTABLE};content=datalink"
        return _links([[identifier, url, "", "", "Authenticated Data Link", "#this", kind, "", ""]])

    # -- jobs ---------------------------------------------------------------------------------

    def _create(self, request: Request) -> Reply:
        pairs = parse_qsl(request.body.decode()) + parse_qsl(urlsplit(request.target).query)
        tokens = [value for name, value in pairs if name.upper() == "ID"]
        by_token = {image.token: image for image in self.images}
        if not self.takes_jobs or not tokens or any(token not in by_token for token in tokens):
            return _failure(request, 400, f"no such data product: {tokens}")
        job_id = str(uuid.uuid4())
        images = [by_token[token] for token in tokens]
        script = list(self.scripts[min(len(self.jobs), len(self.scripts) - 1)])
        if self.bad_in_jobs & {image.identifier for image in images}:
            script = ["QUEUED", "ERROR"]
        expired = len(self.jobs) < self.expired
        self.jobs[job_id] = Job(images, script, links_expired=expired)
        # As behind a proxy: another scheme and host than the one that was asked.
        location = f"http://casda-inner/casda_data_access/data/async/{job_id}"
        return Reply(303, {"Location": location, "Content-Type": "text/plain"}, job_id.encode())

    def _run(self, request: Request, job_id: str) -> Reply:
        job = self.jobs.get(job_id)
        if job is None or job.is_gone:
            return _failure(request, 410 if job else 404, "no such job")
        if request.form.get("phase") != "RUN" or job.phase != "PENDING":
            return _failure(request, 400, f"phase is {job.phase}")
        job.phase = job.script.pop(0)
        return Reply(303, {"Location": f"{self.url}/data/async/{job_id}"})

    def _describe(self, request: Request, job_id: str) -> Reply:
        job = self.jobs.get(job_id)
        if job is None or job.is_gone:
            return _failure(request, 410 if job else 404, "The requested job has expired")
        if request.headers.get("accept") != "application/xml":
            return html(200)
        body = self._job_xml(job_id, job)
        if job.phase != "PENDING" and job.script:
            job.phase = job.script.pop(0)
            job.is_gone = job.phase == "GONE"
        return text(body, kind="application/xml")

    def _job_xml(self, job_id: str, job: Job) -> str:
        results = ""
        if job.phase == "COMPLETED":
            # Sidecars first, as recorded.
            for image in job.images:
                if image.identifier in self.not_brought:
                    continue
                url = self._link(job_id, image)
                sums = f"{self.url}/download/web/{job_id}/{quote(image.filename)}.checksum"
                if image.identifier not in self.without_sums:
                    results += _result(f"{image.identifier}.checksum", sums)
                results += _result(image.identifier, url)
        summary = '<uws:errorSummary xsi:nil="true" />'
        if job.phase == "ERROR":
            said = f"Could not stage\n {job.images[-1].token} of the archive"
            summary = (
                '<uws:errorSummary type="FATAL" hasDetail="false">'
                f"<uws:message>{said}</uws:message></uws:errorSummary>"
            )
        parameters = "".join(
            f'<uws:parameter id="id"><![CDATA[{image.token}]]></uws:parameter>'
            for image in job.images
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<uws:job {UWS} {XSI}>'
            f"<uws:jobId>\n<![CDATA[{job_id}]]>\n</uws:jobId><uws:phase>{job.phase}</uws:phase>"
            f"<uws:destruction>{job.destruction}</uws:destruction>"
            f"<uws:parameters>{parameters}</uws:parameters>"
            f"<uws:results>{results}</uws:results>{summary}</uws:job>"
        )

    def _link(self, job_id: str, image: Image) -> str:
        name = quote(image.filename)
        if not self.is_signed:
            return f"{self.url}/download/web/{job_id}/{name}"
        disposition = quote(f'attachment; filename="{image.filename}"', safe="")
        key = quote(f"casda-prd/{image.collection}/{image.filename}", safe="")
        return (
            f"{self.url}/signed/{key}?response-content-disposition={disposition}"
            f"&X-Amz-Credential=abc%2F20260722%2Faws4_request&X-Amz-Signature={SIGNATURE}"
        )

    # -- downloads ----------------------------------------------------------------------------

    def _download(self, request: Request, job_id: str, name: str) -> Reply:
        job = self.jobs.get(job_id)
        image = next((i for i in job.images if name.startswith(i.filename)), None) if job else None
        if job is None or image is None:
            return html(404)
        if job.links_expired:
            return html(403)
        if name.endswith(".checksum"):
            return text(self._sums(image))
        return self._image(request, image)

    def _download_signed(self, request: Request) -> Reply:
        # The signature covers the address letter by letter.
        for image in self.images:
            if f"{self.url}{request.target}" == self._link("", image):
                used = [job for job in self.jobs.values() if image in job.images]
                return html(403) if used[-1].links_expired else self._image(request, image)
        return text("<Error><Code>SignatureDoesNotMatch</Code></Error>", 403, "application/xml")

    def _image(self, request: Request, image: Image) -> Reply:
        if image.identifier in self.trapped:
            said = "ServiceUnavailable: The service is temporarily down\nRequest ID: 17\n"
            name = 'attachment; filename="casda_data_access_exception.txt"'
            return Reply(
                200, {"Content-Type": "text/plain", "Content-Disposition": name}, said.encode()
            )
        return file(request, image.body, "image/x-fits")

    def _sums(self, image: Image) -> str:
        if image.identifier in self.odd_sums:
            return "not yet computed"
        body = image.body[::-1] if image.identifier in self.wrong_sums else image.body
        sha1 = hashlib.sha1(body, usedforsecurity=False).hexdigest()
        return f"{zlib.crc32(body):08x} {sha1} {len(body):x}"


def _result(name: str, url: str) -> str:
    return f'<uws:result id="{name}" xlink:type="simple" xlink:href={quoteattr(url)} />'


def _fault(said: str) -> Reply:
    return text(document(info("ERROR", said)), kind=VOTABLE)


def _failure(request: Request, status: int, said: str) -> Reply:
    if request.headers.get("accept") == "text/plain":
        return text(f"FAILURE: {said}", status)
    return html(status)


def _error_row(identifier: str, said: str) -> list[str]:
    return [identifier, "", "", said, "", "#error", "", "", ""]


def _links(rows: list[list[str]], staging: str = "") -> Reply:
    names = ("ID", "access_url", "service_def", "error_message", "description", "semantics")
    names += ("content_type",)
    fields = "".join(f'<FIELD datatype="char" name="{n}" arraysize="*"/>' for n in names)
    fields += '<FIELD unit="byte" datatype="long" name="content_length"/>'
    fields += (
        '<FIELD ID="authenticatedIdToken" datatype="char" name="authenticated_id_token" '
        'arraysize="*"/>'
    )
    data = "".join(
        "<TR>" + "".join(f"<TD>{escape(cell)}</TD>" for cell in row) + "</TR>" for row in rows
    )
    meta = (
        '</RESOURCE><RESOURCE ID="async_service" utype="adhoc:service" type="meta">'
        '<PARAM value="ivo://ivoa.net/std/SODA#async-1.0" datatype="char" name="standardID" '
        f'arraysize="*"/><PARAM value="{staging}" datatype="char" name="accessURL" arraysize="*"/>'
        '<GROUP name="inputParams"><PARAM value="" datatype="char" ref="authenticatedIdToken" '
        'name="ID" arraysize="*"/></GROUP>'
        if staging
        else ""
    )
    content = f"<TABLE>{fields}<DATA><TABLEDATA>{data}</TABLEDATA></DATA></TABLE>{meta}"
    return text(document(content, "CASDA Datalink Result"), kind=VOTABLE)
