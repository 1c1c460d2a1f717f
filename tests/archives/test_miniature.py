"""The paper's own configuration from end to end, against archives on this machine.

Only addresses, sizes and the matrix differ from what runs against the real hosts: the rules, and
`workflow/config/paper.yaml`, are the same.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from stradavit.acquire.archives.credentials import OPAL_PASSWORD, OPAL_USER
from stradavit.acquire.manifest import read_manifest
from tests.conftest import REPOSITORY
from tests.workflow.conftest import BIN, copy_workflow, run_snakemake

from .fake_casda import PASSWORD, USER
from .miniature import (
    HORTON_WITHOUT_IMAGE,
    LOTSS_FIELDS,
    N_HORTON,
    N_MIRABEST,
    N_MIRABEST_TEST,
    N_RGZ,
    World,
    world,
)

pytestmark = pytest.mark.slow

SIDE = 64
OVERLAYS = ("workflow/config/paper.yaml", "mini.yaml", "here.yaml")
ENCODERS = ("start", "reconstruction", "two_stage")
PROBE_ONLY = "evaluation: {protocols: [linear_probe]}"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All archives, and an environment as a user has it."""
    with pytest.MonkeyPatch.context() as patch, world() as made:
        patch.setenv(OPAL_USER, USER)
        patch.setenv(OPAL_PASSWORD, PASSWORD)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        yield made


def prepare(archives: World, folder: Path, more: str = "") -> list[str]:
    """A copy of the workflow with its overlays; the words that make the tables in it."""
    copy_workflow(REPOSITORY, folder)
    shutil.copy(REPOSITORY / "tests" / "archives" / "mini.yaml", folder)
    (folder / "here.yaml").write_text(yaml.safe_dump(archives.overlay))
    (folder / "more.yaml").write_text(more or "{}")
    return ["results/tables", "--configfile", *OVERLAYS, "more.yaml"]


@pytest.fixture(scope="module")
def done(archives: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tables were made."""
    folder = tmp_path_factory.mktemp("miniature")
    finished = run_snakemake(folder, *prepare(archives, folder))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def table(folder: Path, name: str) -> list[dict[str, str]]:
    """Rows of a table of the results."""
    with (folder / "results" / "tables" / f"{name}.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


# -- what it made -------------------------------------------------------------------------------


def naive_counts(body: bytes) -> tuple[int, int]:
    """Whole cutouts of all planes, and those with a bad pixel: one by one, by Astropy alone."""
    raw = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    data = fits.getdata(io.BytesIO(raw))
    kept = bad = 0
    for plane in data.reshape(-1, *data.shape[-2:]):
        for y in range(0, plane.shape[0] - SIDE + 1, SIDE):
            for x in range(0, plane.shape[1] - SIDE + 1, SIDE):
                if np.isfinite(plane[y : y + SIDE, x : x + SIDE]).all():
                    kept += 1
                else:
                    bad += 1
    return kept, bad


def test_table_1_counts_every_cutout_of_every_file(archives: World, done: Path) -> None:
    rows = table(done, "01_pretraining_sources")
    total = rows.pop()
    dropped = [key for key in total if key.startswith(("dropped ", "guard "))]
    for row, bodies in zip(rows, archives.served.values(), strict=True):
        kept, bad = map(sum, zip(*map(naive_counts, bodies), strict=True))
        assert int(row["products"]) == len(bodies), row
        assert int(row["dropped non_finite"]) == bad, row
        assert int(row["cutouts"]) + sum(int(row[key]) for key in dropped) == kept + bad, row
    askap = rows[1]
    # The first image lies around a source of RGZ, in the corner of a cutout beside the middle:
    # of the nine around it, the farthest is more than the guard's 2 arcmin away.
    assert [int(row["guard rgz_dr1"]) for row in rows] == [0, 8, 0, 0]
    assert askap["source"] == "ASKAP (CASDA)"
    for key in ("cutouts", "products", *dropped):
        assert int(total[key]) == sum(int(row[key]) for row in rows)
    assert sum(float(row["ratio"]) for row in rows) == pytest.approx(1.0)


def test_table_2_counts_every_benchmark(done: Path) -> None:
    rows = {row["dataset"]: row for row in table(done, "02_benchmarks")}
    samples = {name: (int(row["samples"]), int(row["classes"])) for name, row in rows.items()}
    # One position of each has no image.
    assert samples == {
        "MiraBest": (N_MIRABEST, 2),
        "LoTSS DR2": (N_HORTON - 1, 5),
        "RGZ DR1": (N_RGZ - 1, 6),
    }
    with (done / "results" / "raw" / "lotss_dr2" / "left_out.csv").open(newline="") as opened:
        (left,) = csv.DictReader(opened)
    assert left["image"].startswith(f"ILTJ{HORTON_WITHOUT_IMAGE:02d}")


def test_every_cell_has_scores(done: Path) -> None:
    cells = [
        ("06_baselines_probe", "07_baselines_finetune", 1),
        ("08_reconstruction_probe", "09_reconstruction_finetune", 1),
        ("13_two_stage_probe", "14_two_stage_finetune", 1),
    ]
    printed = ("_f1 mean", "_f1 std")
    for *names, n_rows in cells:
        for name in names:
            filled = [
                [float(text) for key, text in row.items() if key.endswith(printed)]
                for row in table(done, name)
                if any(text for key, text in row.items() if key.endswith(printed))
            ]
            assert len(filled) == n_rows, name
            assert all(0 <= score <= 1 for scores in filled for score in scores)
            assert all(len(scores) == 3 * 2 * 2 for scores in filled)
    for branch in ENCODERS:
        found = list(done.glob(f"results/metrics/*/{branch}_vit-mae-base*/*.json"))
        # Four protocols on three benchmarks, and the published split of the one that has it.
        assert len(found) == 4 * 3 + 1
        (divided,) = [path for path in found if path.parts[-3] == "published_split"]
        folds = json.loads(divided.read_text())["folds"]
        sizes = {(fold["n_train"], fold["n_test"]) for fold in folds}
        assert sizes == {(N_MIRABEST - N_MIRABEST_TEST, N_MIRABEST_TEST)}


def test_nothing_that_must_not_come_came(archives: World, done: Path) -> None:
    came = {path.name for path in (done / "results" / "raw" / "askap" / "files").glob("*.fits")}
    assert len(came) == 3
    assert not [name for name in came if "taylor.1" in name or "cube-4" in name]
    fields = {path.name for path in (done / "results" / "raw" / "lotss" / "files").glob("*.fits")}
    assert fields == {f"{name}-mosaic-blanked.fits" for name in LOTSS_FIELDS}
    assert not list(done.glob("results/raw/*/*.missing.csv"))
    assert not list(done.glob("results/raw/**/*.part"))


def test_a_second_call_has_nothing_to_do(archives: World, done: Path) -> None:
    before = archives.watch.n_begun
    again = run_snakemake(done, "results/tables", "--configfile", *OVERLAYS, "more.yaml")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr
    assert archives.watch.n_begun == before


def test_no_secret_is_on_the_disk(archives: World, done: Path) -> None:
    secrets = [secret.encode() for secret in (*archives.casda.secrets(), USER)]
    texts = [path for path in done.rglob("*") if path.is_file() and path.suffix != ".fits"]
    assert len(texts) > 200
    for path in texts:
        body = path.read_bytes()
        assert not [secret for secret in secrets if secret in body], path


def test_the_doctor_finds_everything_ready(archives: World, done: Path) -> None:
    told = subprocess.run(
        [BIN / "stradavit", "doctor", "--json", "--configfile", "config.yaml", *OVERLAYS],
        cwd=done,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(told.stdout)
    assert told.returncode == 0 and report["is_ready"], told.stdout
    subjects = {finding["subject"] for finding in report["findings"]}
    assert {"surveys.askap", "benchmarks.rgz_dr1", "encoders.vit-mae-base"} <= subjects
    assert PASSWORD not in told.stdout + told.stderr


def test_the_script_of_the_page_freezes_a_manifest(archives: World, done: Path) -> None:
    page = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    subprocess.run([BIN / "python", "-c", script], cwd=done, check=True)
    frozen = read_manifest(done / "askap.csv")
    bodies = {hashlib.sha256(image.body).hexdigest() for image in archives.casda.images[:3]}
    assert {row.checksum.removeprefix("sha256:") for row in frozen} == bodies
    survey = {"source": "casda", "parts": 2, "frozen_manifest": str(done / "askap.csv")}
    listed = done / "again.csv"
    # No address is given: whoever has the manifest asks the archive for no list.
    words = ["--name", "askap", "--survey", json.dumps(survey), "--out", str(listed)]
    subprocess.run([BIN / "stradavit", "acquire-manifest", *words], check=True)
    assert read_manifest(listed) == frozen


# -- killed -------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 digest of each file of an archive or the hub that is whole, by its path."""
    found = [*folder.glob("results/raw/**/*"), *folder.glob("results/encoders/*/.hub/**/*")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(found)
        # Hidden are journals and what belongs to parts.
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".part"
    }


def test_killed_while_it_fetches_and_called_again(
    archives: World, done: Path, tmp_path: Path
) -> None:
    watch = archives.watch
    n_files = len(list((done / "results" / "raw").rglob("files/**/*.fits*")))
    strike_at = random.randint(1, n_files)
    arguments = prepare(archives, tmp_path, PROBE_ONLY)
    running = subprocess.Popen(
        [BIN / "snakemake", "--cores", "2", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    watch.strike = lambda: os.killpg(running.pid, signal.SIGKILL)
    watch.strike_at = watch.n_begun + strike_at
    try:
        assert running.wait(timeout=700) == -signal.SIGKILL, f"not struck at file {strike_at}"
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    wait_for_end_of_group(running.pid)
    whole = set(files_of(tmp_path).values())
    n_before = len(watch.sent)
    subprocess.run([BIN / "snakemake", "--unlock", *arguments[1:]], cwd=tmp_path, check=True)
    again = run_snakemake(tmp_path, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    told = f"struck at file {strike_at} of {n_files}"
    # Under its name, a file is whole: nobody may be asked for it again.
    assert not whole & set(watch.sent[n_before:]), told
    assert files_of(tmp_path) == files_of(done), told
    # All that the probe decides alone; the rest was left out here to save time.
    tables = [path.name for path in (done / "results" / "tables").glob("*.csv")]
    same = [name for name in tables if name < "06" or name.endswith("_probe.csv")]
    assert len(same) >= 9
    for name in same:
        mine = (tmp_path / "results" / "tables" / name).read_bytes()
        assert mine == (done / "results" / "tables" / name).read_bytes(), f"{name}, {told}"


def wait_for_end_of_group(group: int) -> None:
    """Until no process of a killed group is left that could still write."""
    # The dead belong to it until somebody asks for their status, which not every system does soon.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
