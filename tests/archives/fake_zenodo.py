"""Zenodo as far as records and their files go."""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any, Literal

from .server import App, Reply, Request, file, text

BLOCKED = b"""<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>
<p>Unusual traffic from your network.</p><p>Reference: 0.synthetic</p></body></html>"""


def zenodo(record: str, files: Mapping[str, bytes], spelling: Literal["new", "old"] = "new") -> App:
    """One record. `old` spells keys and digests as in October 2023."""

    def app(request: Request) -> Reply:
        if request.headers.get("user-agent", "").startswith("python-requests"):
            return blocked()
        if request.path == f"/api/records/{record}":
            listed = [_listed(record, name, body, spelling) for name, body in files.items()]
            answer = {"id": int(record), "doi": f"10.5281/zenodo.{record}", "files": listed}
            return text(json.dumps(answer), kind="application/json")
        for name, body in files.items():
            if request.path == f"/api/records/{record}/files/{name}/content":
                reply = file(request, body)
                disposition = {"Content-Disposition": f"attachment; filename={name}"}
                return Reply(reply.status, {**reply.headers, **disposition}, reply.body)
        absent = {"status": 404, "message": "The persistent identifier does not exist."}
        return text(json.dumps(absent), 404, "application/json")

    return app


def _listed(record: str, name: str, body: bytes, spelling: str) -> dict[str, Any]:
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    link = {"self": f"https://elsewhere.invalid/api/records/{record}/files/{name}/content"}
    if spelling == "old":
        return {"filename": name, "filesize": len(body), "checksum": digest, "links": link}
    return {"key": name, "size": len(body), "checksum": f"md5:{digest}", "links": link}


def blocked() -> Reply:
    """What a program meets whose name Zenodo does not like."""
    return Reply(403, {"Content-Type": "text/html"}, BLOCKED)


def limited(app: App, times: int, wait_s: int = 2) -> App:
    """`app` whose first replies say that too much was asked."""
    left = [times]

    def app_with_limit(request: Request) -> Reply:
        if left[0] <= 0:
            return app(request)
        left[0] -= 1
        headers = {
            "X-RateLimit-Limit": "60",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(time.time()) + wait_s),
        }
        return Reply(429, headers, b"100 per 1 minute")

    return app_with_limit
