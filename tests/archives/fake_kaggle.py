"""Kaggle as clients see it: a view of a data set, and a download redirected to Google's store."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from .server import Reply, Request, file, redirect, text

USER, KEY = "somebody", "aKeyOnlyForTests"
DATASET = "greatbird/sardet-100k"
CLASSES = ("ship", "aircraft", "car", "tank", "bridge", "harbor")
PNG = b"\x89PNG\r\n\x1a\n" + b"no more than a head" * 8


def annotations(split: str, prefix: str = "", first_id: int = 0) -> bytes:
    """COCO annotations of one image with one box for each class."""
    number = ("train", "val", "test").index(split)
    categories = [{"id": n + first_id, "name": name} for n, name in enumerate(CLASSES)]
    boxes = [
        {"id": n, "image_id": number, "category_id": item["id"], "bbox": [1, 2, 3, 4], "area": 12}
        for n, item in enumerate(categories)
    ]
    image = {"id": number, "file_name": f"{prefix}000{number}.png", "width": 9, "height": 9}
    coco = {"images": [image], "annotations": boxes, "categories": categories}
    return json.dumps(coco).encode()


def members(
    by_split: bool = True, root: str = "SARDet_100K/", first_id: int = 0
) -> dict[str, bytes]:
    """The files of a copy of three images, in either layout."""
    made: dict[str, bytes] = {}
    for number, split in enumerate(("train", "val", "test")):
        made[f"{root}Annotations/{split}.json"] = annotations(split, first_id=first_id)
        folder = f"{split}/" if by_split else ""
        made[f"{root}JPEGImages/{folder}000{number}.png"] = PNG + bytes([number])
    return made


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip file, the same each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, body in files.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    return packed.getvalue()


@dataclass
class FakeKaggle:
    """One data set; its switches are what Kaggle does differently at times.

    Parameters
    ----------
    store : address downloads are redirected to; "" for this server itself
    md5 : what `X-Goog-Hash` says instead of the right digest; None for no such header
    wants_login, wants_consent : 401 without credentials; 403 even with them
    honours_range : whether a range is answered with 206
    """

    body: bytes = field(default_factory=lambda: zipped(members()))
    version: int = 3
    store: str = ""
    md5: bytes | None = b""
    wants_login: bool = False
    wants_consent: bool = False
    honours_range: bool = True

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        if request.path == "/store/file":
            return self.file(request)
        sent = request.headers.get("authorization", "")
        if sent and sent != "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode():
            return self._refusal(401, "Unauthenticated")
        if self.wants_login and not sent:
            return self._refusal(401, "Unauthenticated")
        if request.path == f"/api/v1/datasets/view/{DATASET}":
            view = {"ref": DATASET, "currentVersionNumber": self.version, "totalBytes": 9}
            return text(json.dumps(view), kind="application/json")
        if request.path == f"/api/v1/datasets/download/{DATASET}":
            if self.wants_consent:
                return self._refusal(403, "Permission 'datasets.get' was denied")
            if request.query.get("dataset_version_number") != [str(self.version)]:
                return self._refusal(404, "Not found")
            return redirect(f"{self.store}/store/file?X-Goog-Signature=aSignature")
        return self._refusal(404, "Not found")

    def file(self, request: Request) -> Reply:
        """Google's store: signed for GET only, and no login may come here."""
        if "authorization" in request.headers and self.store:
            return text("<Error>credentials where none belong</Error>", 400)
        if request.method != "GET":
            return text("<Error><Code>SignatureDoesNotMatch</Code></Error>", 403)
        asked = request if self.honours_range else request.without("range")
        reply = file(asked, self.body, "application/zip")
        if self.md5 is None:
            return reply
        digest = self.md5 or hashlib.md5(self.body, usedforsecurity=False).digest()
        said = f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}"
        return Reply(reply.status, {**reply.headers, "X-Goog-Hash": said}, reply.body)

    @staticmethod
    def _refusal(status: int, message: str) -> Reply:
        return text(json.dumps({"code": status, "message": message}), status, "application/json")
