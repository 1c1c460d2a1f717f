"""The Hugging Face hub as clients see it: commits, listings, redirects to a store, refusals."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from .server import Reply, Request, file, redirect, text

COMMIT = "1f2e3d4c5b6a79880716253443526170f0e1d2c3"
LARGE = (".safetensors", ".bin", ".h5")
TOKEN = "hf_aTokenOnlyForTests"


def safetensors(values: bytes = b"\x00\x01\x02\x03" * 512, **tensors: int) -> bytes:
    """A small weight file; `tensors` are names with numbers of floats, zeros all."""
    names = tensors or {"vit.weight": len(values) // 4}
    header, at = {}, 0
    for name, n_floats in names.items():
        header[name] = {
            "dtype": "F32",
            "shape": [n_floats],
            "data_offsets": [at, at + 4 * n_floats],
        }
        at += 4 * n_floats
    described = json.dumps(header).encode()
    body = values if not tensors else bytes(at)
    return struct.pack("<Q", len(described)) + described + body


MODEL: Mapping[str, bytes] = {
    "README.md": b"# A model\n",
    "config.json": b'{"model_type": "vit_mae"}\n',
    "preprocessor_config.json": b'{"image_mean": [0.5, 0.5, 0.5]}\n',
    "model.safetensors": safetensors(),
    "pytorch_model.bin": b"a pickle, which nobody may load" * 9,
}


def git_sha1(body: bytes) -> str:
    """The name git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def sha256(body: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(body).hexdigest()


@dataclass
class FakeHub:
    """One repository of one commit; its switches are what real hubs and mirrors do differently.

    Parameters
    ----------
    store : address large files are redirected to; "" for this server itself, None for no redirect
    renamed_from : former name, redirected to `repo`
    page_entries : entries of one page of the listing
    sizes : what the listing says instead of the true sizes
    """

    files: Mapping[str, bytes] = field(default_factory=lambda: dict(MODEL))
    repo: str = "someone/tiny"
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main",)
    store: str | None = ""
    renamed_from: str = ""
    is_gated: bool = False
    names_commit: bool = True
    page_entries: int = 1000
    next_host: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        path = request.path
        if path.startswith("/blob/"):
            return self.blob(request)
        sent = request.headers.get("authorization", "")
        if sent and sent != f"Bearer {TOKEN}":
            return self._refusal(401, "", "Invalid credentials in Authorization header")
        if self.renamed_from and f"/{self.renamed_from}/" in path:
            return redirect(path.replace(self.renamed_from, self.repo), 307)
        if path.startswith("/api/models/"):
            return self._api(request, path.removeprefix("/api/models/"))
        if path.startswith(f"/{self.repo}/resolve/"):
            return self._resolve(request, path.removeprefix(f"/{self.repo}/resolve/"))
        return self._refusal(401, "RepoNotFound", "Repository not found")

    def blob(self, request: Request) -> Reply:
        """The store: no token may come here."""
        if "authorization" in request.headers and self.store:
            return text("a token was sent to the store", 400)
        for body in self.files.values():
            if request.path == f"/blob/{sha256(body)}":
                return file(request, body)
        return text("gone", 404)

    def _api(self, request: Request, path: str) -> Reply:
        if not path.startswith(f"{self.repo}/"):
            return self._refusal(401, "RepoNotFound", "Repository not found")
        verb, _, revision = path.removeprefix(f"{self.repo}/").partition("/")
        if revision not in (self.commit, *self.branches):
            return self._refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if verb == "revision":
            siblings = [{"rfilename": name} for name in sorted(self.files)]
            return self._json({"id": self.repo, "sha": self.commit, "siblings": siblings})
        assert verb == "tree", path
        entries = [self._entry(name) for name in sorted(self.files)]
        start = int(request.query.get("cursor", ["0"])[0])
        page = entries[start : start + self.page_entries]
        reply = self._json(page)
        if start + self.page_entries < len(entries):
            following = f"{self.next_host}{quote(request.path)}?cursor={start + self.page_entries}"
            link = {"Link": f'<{following}>; rel="next"'}
            return Reply(200, {**reply.headers, **link}, reply.body)
        return reply

    def _entry(self, name: str) -> dict[str, object]:
        body = self.files[name]
        size = self.sizes.get(name, len(body))
        entry: dict[str, object] = {"type": "file", "path": name, "size": size}
        if name.endswith(LARGE):
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(body)}\n"
            entry["oid"] = git_sha1(pointer.encode())
            entry["lfs"] = {"oid": sha256(body), "size": size, "pointerSize": len(pointer)}
            entry["xetHash"] = sha256(body[::-1])
        else:
            entry["oid"] = git_sha1(body)
        return entry

    def _resolve(self, request: Request, path: str) -> Reply:
        revision, _, name = path.partition("/")
        named = {"X-Repo-Commit": self.commit} if self.names_commit else {}
        if self.is_gated and "authorization" not in request.headers:
            return self._refusal(401, "GatedRepo", f"Access to model {self.repo} is restricted.")
        if revision not in (self.commit, *self.branches):
            return self._refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in self.files or name in self.hidden:
            return self._refusal(404, "EntryNotFound", "Entry not found", named)
        body = self.files[name]
        if not name.endswith(LARGE) or self.store is None:
            reply = file(request, body)
            etag = sha256(body) if name.endswith(LARGE) else git_sha1(body)
            return Reply(reply.status, {**reply.headers, **named, "ETag": f'"{etag}"'}, reply.body)
        linked = {"X-Linked-Etag": f'"{sha256(body)}"', "X-Linked-Size": str(len(body))}
        signed = f"{self.store}/blob/{sha256(body)}?X-Amz-Signature=aSignature"
        return Reply(302, {"Location": signed, **named, **linked})

    @staticmethod
    def _json(value: object) -> Reply:
        return text(json.dumps(value), kind="application/json")

    @staticmethod
    def _refusal(
        status: int, code: str, message: str, more: Mapping[str, str] = MappingProxyType({})
    ) -> Reply:
        headers = {"X-Error-Code": code} if code else {}
        headers |= {"X-Error-Message": message, **more, "Content-Type": "application/json"}
        return Reply(status, headers, json.dumps({"error": message}).encode())
