"""Encoders and cells: of the paper, of the default, and of what is done."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from stradavit.planning.plan import Plan
from stradavit.planning.runs import metrics_path
from stradavit.settings import Settings

Read = Callable[..., Settings]
MakePlan = Callable[..., Plan]


def done(plan: Plan) -> dict[str, tuple[int, int]]:
    """Wanted and done by kind."""
    return {row.kind: (row.wanted, row.done) for row in plan.encoders}


# -- the matrix -----------------------------------------------------------------------------------


def test_the_paper_has_32_trainings(paper: Settings, plan: MakePlan) -> None:
    found = plan(paper, device="cuda")
    counted = {row.kind: row.wanted for row in found.encoders if row.kind != "start"}
    assert counted == {"reconstruction": 6, "contrastive": 6, "two_stage": 18, "dinov2": 2}
    n_cells = Counter(protocol for protocol, _, _ in paper.cells())
    assert {row.protocol for row in found.cells} == set(paper.evaluation.protocols)
    assert Counter({row.protocol: 0 for row in found.cells}) + Counter(
        row.protocol for row in found.cells for _ in range(row.wanted)
    ) == Counter(n_cells)
    assert all(row.done == 0 and row.left == row.wanted for row in found.cells)
    by_kind = {work.kind: work for work in found.trainings}
    # 35 epochs of ceil(590,654 / 2048) updates; the last incomplete micro-batch is left out.
    assert by_kind["two_stage"].updates == 35 * 289 == by_kind["reconstruction"].updates
    assert by_kind["reconstruction"].cutouts == 35 * 590_654
    assert by_kind["contrastive"].cutouts == 35 * (590_654 // 256 * 256)
    # In micro-batches of 20, of which 104 make an update.
    assert by_kind["dinov2"].updates == 35 * 284


def test_a_survey_left_out_and_a_second_seed_count(read: Read, plan: MakePlan) -> None:
    usual = done(plan(read()))
    overlay = {"matrix": {"leave_out": ["mgcls", "sdc1"]}, "training": {"seeds": [1, 2]}}
    found = plan(read(overlay))
    twice = {kind: (2 * wanted, 0) for kind, (wanted, _) in usual.items()}
    assert done(found) == twice | {"leave_out": (2 * 2 * 2, 0)}
    assert found.seeds == (1, 2)
    shown = {(work.title, work.corpus): work.runs for work in found.trainings}
    assert shown["leave-one-out, reconstruction", "all-without-mgcls"] == 2
    assert shown["leave-one-out, contrastive", "all-without-sdc1"] == 2
    sizes = {corpus.name: corpus.cutouts.value for corpus in found.corpora}
    of_survey = {survey.name: survey.cutouts.value for survey in found.surveys}
    assert sizes["all-without-sdc1"] == sizes["all"] - of_survey["sdc1"]


def whole_encoder(folder: Path, card: object) -> None:
    """An encoder folder as far as a plan looks at it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text(f"# it\n\n```json\n{json.dumps(card)}\n```\n")


def test_what_is_done_is_subtracted(read: Read, plan: MakePlan, tmp_path: Path) -> None:
    settings = read()
    before = plan(settings)
    nodes = settings.nodes()
    encoders = tmp_path / "results" / "encoders"
    for node in nodes.values():
        if node.branch in ("start", "reconstruction"):
            if node.branch == "start":
                card = {"settings": settings.encoders[node.start].model_dump(mode="json")}
            else:
                wanted = json.loads(settings.pretrain_settings(node).to_json())
                card = {"identity": {"settings": wanted}}
            whole_encoder(encoders / node.name, card)
            path = metrics_path(tmp_path / "results", "linear_probe", node.name, "mirabest")
            path.parent.mkdir(parents=True)
            path.write_text("{}")
    after = plan(settings)
    assert done(after) == {
        kind: (wanted, wanted if kind in ("start", "reconstruction", "chips") else 0)
        for kind, (wanted, _) in done(before).items()
    }
    assert {work.kind for work in after.trainings} == {"contrastive", "two_stage"}
    left = {(row.protocol, row.benchmark): row.left for row in after.cells}
    assert left["linear_probe", "mirabest"] == left["linear_probe", "rgz_dr1"] - 2
    assert after.device_hours < before.device_hours

    # A change of settings asks for the run anew, for what starts from it, and for their cells.
    changed = plan(read({"training": {"reconstruction": {"epochs": 11}}}))
    rows = {row.kind: row for row in changed.encoders}
    assert (rows["reconstruction"].left, rows["reconstruction"].outdated) == (1, 1)
    assert rows["start"].left == 0
    again = {(row.protocol, row.benchmark): row.left for row in changed.cells}
    assert again["linear_probe", "mirabest"] == left["linear_probe", "mirabest"] + 1
