"""Killed at random moments and started again: the same files, and nothing whole asked for twice."""

import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tests.archives.server import Loopback, Reply, Request, file, files

N_FILES = 24
BODIES = {f"/{i}.bin": random.Random(i).randbytes(40_000 + 7_000 * i) for i in range(N_FILES)}

CHILD = """
import hashlib, sys
from pathlib import Path
from stradavit.acquire.transfer.fetch import Remote, fetch
from stradavit.acquire.transfer.web import Web
from stradavit.settings.archives import ArchiveSettings

url, folder, n_files = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
archives = ArchiveSettings(backoff_s=0, backoff_max_s=0, pause_s=0, streams=3)
remotes = [Remote(f"{i}.bin", f"{url}/{i}.bin") for i in range(n_files)]
print("ready", flush=True)
with Web(archives) as web:
    outcomes = fetch(web, remotes, folder, "test")
assert [outcome.state for outcome in outcomes] == ["fetched"] * n_files, outcomes
"""


class Slowly:
    """Files in pieces; at the chosen piece it waits until whoever fetches has been killed."""

    def __init__(self) -> None:
        self.strike_in = 0
        self.struck, self.killed = threading.Event(), threading.Event()

    def arm(self, pieces: int) -> None:
        """Strike after so many pieces."""
        self.strike_in = pieces
        self.struck.clear()
        self.killed.clear()

    def __call__(self, request: Request) -> Reply:
        """The reply to a request."""
        reply = file(request, BODIES[request.path])
        body = reply.whole()

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(body), 8192):
                # Not before the first piece: then there is something of this file to go on from.
                self.strike_in -= start > 0
                if start and self.strike_in == 0:
                    self.struck.set()
                    self.killed.wait(30)
                yield body[start : start + 8192]

        headers = {**reply.headers, "Content-Length": str(len(body))}
        return replace(reply, headers=headers, body=pieces())


def has_begun(folder: Path) -> bool:
    """Whether there is something of a file that is not whole yet."""
    for part in folder.glob("*.part"):
        # It may become whole, and lose this name, between two looks.
        with suppress(FileNotFoundError):
            if part.stat().st_size:
                return True
    return False


def test_killed_at_random_and_restarted(tmp_path: Path) -> None:
    chance = random.Random(20)
    kills = 8
    whole: set[str] = set()
    asked_again: list[str] = []
    slowly = Slowly()
    with Loopback(slowly) as server:
        for kill in range(kills + 1):
            n_before = server.count()
            # Often enough within the first file that comes, so that parts are continued.
            slowly.arm(chance.randint(2, 12) if kill < kills else 0)
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, server.url, str(tmp_path), str(N_FILES)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            while child.poll() is None and not slowly.struck.wait(0.01):
                pass
            if kill < kills:
                # What was sent may not have been read yet; every other kill comes as soon as that.
                while kill % 2 and child.poll() is None and not has_begun(tmp_path):
                    time.sleep(0.01)
                child.kill()
            slowly.killed.set()
            _, said = child.communicate()
            assert child.returncode == (-9 if kill < kills else 0), said.decode()
            asked = [request.path for request in server.requests[n_before:]]
            asked_again += [path for path in asked if path in whole]
            # Under its name, a file is whole: it takes it by a rename after all checks.
            whole |= {f"/{path.name}" for path in tmp_path.glob("*.bin")}
        continued = [request for request in server.requests if "range" in request.headers]
    assert asked_again == []
    assert continued, "no part was continued: the test shows nothing"
    for path, body in BODIES.items():
        found = (tmp_path / path[1:]).read_bytes()
        assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".journal.jsonl", *(path[1:] for path in BODIES)]
    )


def test_the_plain_server_gives_the_same(tmp_path: Path) -> None:
    with Loopback(files(BODIES)) as server:
        command = [sys.executable, "-c", CHILD, server.url, str(tmp_path), str(N_FILES)]
        subprocess.run(command, check=True, capture_output=True)
        assert server.count() == N_FILES
        subprocess.run(command, check=True, capture_output=True)
        assert server.count() == N_FILES
