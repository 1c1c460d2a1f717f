"""Names of files, classes and titles that are commands elsewhere, through the real rules."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from stradavit.acquire.manifest import read_ledger
from stradavit.acquire.stages import make_manifest
from stradavit.acquire.table import write_table
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.shards import Shard
from stradavit.errors import DataError, SettingsError
from stradavit.settings import Settings
from stradavit.settings.sources import LocalSurvey
from tests.workflow.conftest import copy_workflow, run_snakemake

COMMANDS = (
    "a b", "it's \"x\"", "$(touch PWNED)", "-rf", "--help", ";touch PWNED;", "`touch PWNED`",
    "&& touch PWNED", "| touch PWNED", "> PWNED", "new\nline", "tab\there", "}", "*", "?",
    "[a-z]", "~root", "!!", "#", "%s", "\\", "\\$HOME", "@file", "é中🔭", "a,b;c", "=1+1", "CON",
    "\u202efil", "x" * 200,
)  # fmt: skip
CLASSES = ("$(touch PWNED)", "=cmd|' /C calc'!A0", "{input} \\input{/etc/passwd} <script>")


def write_images(folder: Path, seed: int) -> list[Path]:
    """A FITS image of noise for each name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{name}.fits" for name in COMMANDS]
    for path in paths:
        # By the handle, since astropy reads some names as patterns.
        with path.open("wb") as out:
            fits.PrimaryHDU(rng.normal(size=(64, 64)).astype(np.float32)).writeto(out)
    return paths


def test_hostile_names_go_through_the_rules_as_names(repository: Path, tmp_path: Path) -> None:
    # The folder of the survey has such a name as well.
    sky = tmp_path / "$(touch PWNED) 'sky' \"*"
    paths = write_images(sky, 1)
    labelled = tmp_path / "images; touch PWNED"
    images = write_images(labelled, 2)
    with (tmp_path / "la bels'.csv").open("w", newline="") as out:
        rows = [(path.name, CLASSES[k % len(CLASSES)]) for k, path in enumerate(images)]
        csv.writer(out).writerows([("filename", "label"), *rows])
    work = tmp_path / "work"
    work.mkdir()
    folder = copy_workflow(repository, work)
    pattern = str(sky).replace("$", "[$]").replace("*", "[*]")
    overlay = {
        "cutouts": {"size_px": 64},
        "surveys": {
            "mine": {"source": "local", "title": "`touch PWNED` {input}", "files": [f"{pattern}/*"]}
        },
        "benchmarks": {
            "mine": {
                "source": "folder",
                "title": "\"; touch PWNED; '{wildcards}",
                "images": str(labelled),
                "labels": str(tmp_path / "la bels'.csv"),
                "ra_column": None,
                "dec_column": None,
                "classes": list(CLASSES),
            }
        },
    }
    (folder / "hostile.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    targets = ("results/shards/mine/0.h5", "results/benchmarks/mine.h5")
    done = run_snakemake(folder, *targets, "--configfile", "hostile.yaml")
    logs = "".join(path.read_text() for path in (folder / "results/logs").rglob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs

    assert list(tmp_path.rglob("PWNED*")) == []
    ledger = read_ledger(folder / "results/raw/mine/0.csv")
    assert {row.path for row in ledger} == {path.resolve() for path in paths}
    # Names of products have none of it.
    assert all(re.fullmatch(r"[A-Za-z0-9.+-]+", row.product) for row in ledger)
    assert len(Shard(folder / targets[0])) == len(paths)
    cut = LabelledCutouts(folder / targets[1])
    assert cut.images == [path.name for path in images]
    assert cut.classes == list(CLASSES)
    again = run_snakemake(folder, *targets, "--configfile", "hostile.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_braces_in_names_of_files_are_refused(repository: Path, tmp_path: Path) -> None:
    """Snakemake would fill them in, and follow another file than the one that is read."""
    work = tmp_path / "work"
    work.mkdir()
    folder = copy_workflow(repository, work)
    (tmp_path / "{survey}.fits").touch()
    overlay = {"surveys": {"mine": {"source": "local", "files": [f"{tmp_path}/*.fits"]}}}
    (folder / "braces.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    target = "results/shards/mine/0.h5"
    done = run_snakemake(folder, target, "--configfile", "braces.yaml", "--dry-run")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "{survey}.fits: Snakemake would take the braces for a wildcard. Rename the file" in said


@pytest.mark.parametrize("name", [b"\xff\xfe.fits", b"a\rb.fits"], ids=["bytes", "return"])
def test_names_that_no_table_can_hold_are_refused(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as out:  # noqa: PTH123 - a name of bytes is no Path
        out.write(b"x")
    survey = LocalSurvey(source="local", files=(f"{tmp_path}/*.fits",))
    with pytest.raises(DataError, match=r"m\.csv: was to hold .* Rename what is called so"):
        make_manifest("mine", survey, tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


def test_cells_that_no_table_can_hold_are_refused(tmp_path: Path) -> None:
    for cell in ("a\0b", "a\rb", "\udcff"):
        with pytest.raises(DataError, match="which no table in UTF-8 can"):
            write_table(tmp_path / "t.csv", ["a"], [[cell]])


# -- names in the config ------------------------------------------------------------------------

SURVEY = {"source": "simulated", "like": "mgcls"}
BENCHMARK = {"source": "simulated", "like": "mirabest"}


def config(**blocks: object) -> dict[str, object]:
    """As little as the settings take."""
    empty: dict[str, object] = {
        name: {} for name in ("surveys", "benchmarks", "corpora", "encoders")
    }
    return {**empty, "matrix": {"corpora": []}, **blocks}


@pytest.mark.parametrize(
    "name",
    ["", "-rf", "..", ".", "a/b", "../a", "a b", "a\nb", "a\n", "$(x)", "a;b", "{a}", "é", "~", "*",
     "a\\b", "_a"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("block", "entry"), [("surveys", SURVEY), ("benchmarks", BENCHMARK)], ids=["survey", "bench"]
)
def test_names_in_the_config_become_file_names(name: str, block: str, entry: object) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(config(**{block: {name: entry}}))
    assert f"{block}.{name}: use ASCII letters" in str(caught.value)


def test_long_names_and_twins_are_refused() -> None:
    long = "a" * 49
    with pytest.raises(SettingsError, match=rf"surveys\.{long}: has 49 characters; 48 fit"):
        Settings.parse(config(surveys={long: SURVEY}))
    with pytest.raises(SettingsError, match=r"surveys\.sky differs from Sky in capitals only"):
        Settings.parse(config(surveys={"Sky": SURVEY, "sky": SURVEY}))
    Settings.parse(config(surveys={"a" * 48: SURVEY, "b..c": SURVEY}))


def test_the_first_second_names_the_key(repository: Path, tmp_path: Path) -> None:
    folder = copy_workflow(repository, tmp_path)
    (folder / "bad.yaml").write_text("surveys: {'; touch PWNED': {source: local, files: [x]}}")
    done = run_snakemake(folder, "results/tables", "--configfile", "bad.yaml", "--dry-run")
    assert done.returncode != 0
    assert "surveys.; touch PWNED: use ASCII letters" in done.stdout + done.stderr
    assert not (folder / "PWNED").exists()


# -- configs that are more than settings --------------------------------------------------------

OBJECT = "x: !!python/object/apply:os.system ['touch PWNED']\n"


def test_tags_of_python_in_a_config_are_refused(repository: Path, tmp_path: Path) -> None:
    folder = copy_workflow(repository, tmp_path)
    (folder / "bad.yaml").write_text(OBJECT)
    with pytest.raises(SettingsError, match="cannot be read as YAML"):
        Settings.read(folder / "bad.yaml")
    done = run_snakemake(folder, "results/tables", "--configfile", "bad.yaml", "--dry-run")
    assert done.returncode != 0
    assert "Config file is not valid JSON or YAML" in done.stdout + done.stderr
    assert not (folder / "PWNED").exists()


def test_a_config_can_run_python_if_it_says_so(repository: Path, tmp_path: Path) -> None:
    """Snakemake's templates: the reason why SECURITY.md counts a config among programs."""
    folder = copy_workflow(repository, tmp_path)
    (folder / "t.yaml").write_text("__use_yte__: true\nx: ?open('RAN', 'w').write('')\n")
    run_snakemake(folder, "results/tables", "--configfile", "t.yaml", "--dry-run")
    assert (folder / "RAN").exists()
    assert "__use_yte__" in (repository / "SECURITY.md").read_text(encoding="utf-8")
