"""What is still to be fetched, and what is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stradavit.acquire.manifest import Acquired, ManifestRow, write_ledger, write_manifest
from stradavit.planning.plan import Plan
from stradavit.settings import Settings

MakePlan = Callable[..., Plan]


def test_downloads_follow_manifest_ledger_and_journal(
    paper: Settings, plan: MakePlan, tmp_path: Path
) -> None:
    before = {item.name: item for item in plan(paper).raw}
    assert (before["surveys.sdc1"].files_left, before["surveys.sdc1"].bytes_left) == (
        3,
        3 * 4_294_981_440,
    )
    assert before["surveys.mgcls"].files_left == 115 * 4 * 2
    assert before["benchmarks.rgz_dr1"].files_left > 98_391
    assert before["encoders.vit-mae-base"].bytes_left == pytest.approx(448e6, rel=2e-3)

    results = tmp_path / "results"
    rows = [ManifestRow(f"m{n}.fits", n % 64, "x", None if n == 5 else 1000 + n) for n in range(6)]
    write_manifest(results / "manifests" / "lotss.csv", rows)
    files = results / "raw" / "lotss" / "files"
    files.mkdir(parents=True)
    (files / "m0.fits").write_bytes(bytes(1000))
    ledger = [Acquired("m0.fits", files / "m0.fits", "0" * 64, 1000)]
    write_ledger(results / "raw" / "lotss" / "0.csv", ledger)
    # m1 has come, its part is not finished.
    line = {"bytes": 1001, "checksum": "", "name": "m1.fits", "sha256": "0" * 64}
    (files / ".journal.jsonl").write_text(json.dumps(line, sort_keys=True) + '\n{"bytes": 10')
    after = {item.name: item for item in plan(paper).raw}["surveys.lotss"]
    assert (after.files_here, after.bytes_here) == (2, 2001)
    assert (after.files_left, after.basis) == (4, "counted")
    assert after.bytes_left == 1002 + 1003 + 1004 + 725_000_000


def test_a_fetched_start_is_fetched_no_more(
    paper: Settings, plan: MakePlan, tmp_path: Path
) -> None:
    hub = tmp_path / "results" / "encoders" / "start_dinov2-small" / ".hub" / "commit"
    hub.mkdir(parents=True)
    (hub / "hub.json").write_text("{}")
    (hub / "model.safetensors").write_bytes(bytes(88))
    found = {item.name: item for item in plan(paper).raw}
    assert found["encoders.dinov2-small"].files_left == 0
    assert found["encoders.dinov2-base"].files_left == 3
