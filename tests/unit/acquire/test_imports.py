"""What the stages of acquisition load: a list of names waits for nothing that draws or fetches."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"astropy", "scipy", "numpy", "httpx2", "torch", "h5py", "huggingface_hub"}


@pytest.mark.parametrize(
    ("survey", "allowed"),
    [
        ({"source": "simulated", "like": "mgcls"}, set()),
        ({"source": "local", "files": ["*.fits"]}, {"numpy"}),
    ],
)
def test_a_manifest_is_made_without_what_draws_or_fetches(
    tmp_path: Path, survey: dict[str, object], allowed: set[str]
) -> None:
    (tmp_path / "a.fits").touch()
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from pydantic import TypeAdapter\n"
        "from stradavit.acquire.stages import make_manifest\n"
        "from stradavit.settings.sources import Survey\n"
        f"survey = TypeAdapter(Survey).validate_python({survey!r})\n"
        "make_manifest('s', survey, Path('manifest.csv'))\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == str(sorted(allowed)), done.stdout + done.stderr
    assert (tmp_path / "manifest.csv").is_file()
