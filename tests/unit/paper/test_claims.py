"""The planned questions compare what they say, and every comparison is a sentence."""

import re
from pathlib import Path
from typing import Any

import pytest

from stradavit.paper.cells import Results
from stradavit.paper.claims import claim_table, claims
from stradavit.paper.layout import Spread, Table
from stradavit.paper.questions import QUESTIONS
from stradavit.paper.render import to_markdown
from tests.reference.statistics import corrected_test, holm_rejects

from .fake_results import fold_scores, full_config, results_of, small_config, write_metrics

QUESTION = {question.letter: question for question in QUESTIONS}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of the paper's matrix, twelve folds in the probe."""
    config = full_config() | {"evaluation": {"probe": {"repeats": 4}}}
    return results_of(config, tmp_path_factory.mktemp("full"))


# For each of two benchmarks; 32 runs: 6 reconstruction, 6 + 2 contrastive, 18 two-stage.
PAIRS = {
    "a": 32,
    "b": 2,
    "c": 2 * 18,
    "d": 3 + 3 + 9,
    # Contrastive losses in 4 + 12 runs, reconstruction losses in 4 + 12.
    "e": 4 + 12 + 4 + 12,
}


@pytest.mark.parametrize("letter", PAIRS)
def test_a_question_compares_every_pair_the_matrix_has(full: Results, letter: str) -> None:
    found = list(claims(full, "finetune", QUESTION[letter]))
    assert len(found) == 2 * PAIRS[letter]
    pairs = {(claim.pair.ours, claim.pair.theirs, claim.benchmark) for claim in found}
    assert len(pairs) == len(found), "a pair is asked about once"
    for claim in found:
        ours, theirs = claim.pair.ours, claim.pair.theirs
        same = {
            "start": ours.start == theirs.start,
            "registers": ours.registers == theirs.registers,
            "reconstruction": ours.reconstruction_loss == theirs.reconstruction_loss,
            "contrastive": ours.contrastive_loss == theirs.contrastive_loss,
        }
        apart = {name for name, is_same in same.items() if not is_same}
        if letter == "a":
            assert theirs.branch == "start" and same["start"]
        elif letter == "b":
            assert theirs.branch == "start"
            assert (ours.reconstruction_loss, ours.contrastive_loss) == ("l2_l1", "soft_hcl")
        elif letter == "c":
            left_out = {"reconstruction": "contrastive", "contrastive": "reconstruction"}
            assert apart == {left_out[theirs.branch]}
        elif letter == "d":
            assert (apart, ours.registers, theirs.registers) == ({"registers"}, 4, 0)
            assert ours.branch == theirs.branch
        else:
            (what,) = apart
            plain = {"reconstruction": "l2", "contrastive": "info_nce"}[what]
            assert getattr(theirs, f"{what}_loss") == plain
            assert ours.branch == theirs.branch


@pytest.mark.parametrize("letter", PAIRS)
def test_a_family_is_corrected_within_a_protocol(full: Results, letter: str) -> None:
    found = list(claims(full, "linear_probe", QUESTION[letter]))
    p_values = []
    for claim in found:
        ours, theirs = (
            fold_scores("linear_probe", score.encoders[0], claim.benchmark, "macro_f1", 12)
            for score in (claim.ours, claim.theirs)
        )
        values = [[a - b for a, b in zip(ours, theirs, strict=True)]]
        p_values.append(corrected_test(values, n_train=2, n_test=1)[3])
        assert claim.difference.p_value == pytest.approx(p_values[-1], abs=1e-9)
    assert [claim.difference.mark != "" for claim in found] == holm_rejects(p_values, 0.05)


def written(config: dict[str, Any], folder: Path, gain: float) -> Table:
    """Table 19 when the two-stage run gains `gain` on its start, on RGZ DR1 by fine-tuning."""
    results = results_of(config, folder)
    start = [0.50, 0.53, 0.49]
    for node in results.nodes.values():
        is_run = node.branch == "two_stage"
        noise = (0.002, -0.001, 0.0)
        scores = [s + (gain + n) * is_run for s, n in zip(start, noise, strict=True)]
        both = {"macro_f1": scores, "weighted_f1": scores}
        write_metrics(results.settings, folder, "finetune", node.name, "rgz", both)
    table = claim_table(Results(results.settings, folder))
    assert table is not None
    return table


def test_a_difference_is_told_in_words(tmp_path: Path) -> None:
    config = small_config()
    config["training"] = {"seeds": [1]}
    table = written(config, tmp_path, gain=0.1)
    (section,) = [s for s in table.sections if s.title.startswith("Fine-tuning, (b)")]
    (told,) = [s for s in section.sentences if "reference" in s and "RGZ DR1" in s]
    # Differences 0.102, 0.099, 0.1: s = 0.0015275; error = s * sqrt(1/3 + 1/2); t(2) = 4.3027.
    assert told == (
        "two-stage L2 → Soft-HCL, R = 0 > the reference (ViT-MAE-Base) on RGZ DR1 (fine-tuning): "
        "+0.100 [+.094, +.106], p < 0.001 (Holm < 0.001); one seed: these weights, not the recipe."
    )
    assert "it harder for the selected model" in section.sentences[0]
    assert told in to_markdown(table)
    row = next(
        row
        for group in table.groups
        if group.title == section.title
        for row in group.rows
        if row.labels
        == ("two-stage L2 → Soft-HCL, R = 0", "the reference (ViT-MAE-Base)", "RGZ DR1")
    )
    assert isinstance(row.cells[0], Spread)
    assert row.cells[3:] == (1, "better")


def test_what_is_worse_and_what_is_not_shown(tmp_path: Path) -> None:
    table = written(small_config(), tmp_path, gain=-0.2)
    (section,) = [s for s in table.sections if s.title.startswith("Fine-tuning, (b)")]
    worse = [s for s in section.sentences if s.startswith("two-stage L2 → Soft-HCL, R = 0 < ")]
    assert any("the reference (ViT-MAE-Base) on RGZ DR1" in s for s in worse)
    assert all(s.endswith("; the recipe, over 2 seeds.") for s in worse)
    others = [s for s in section.sentences[1:] if s not in worse]
    pattern = (
        r"no difference shown: .* and .* on .* \(fine-tuning\): .* \(Holm [\d.]+\); the recipe"
    )
    assert others and all(re.match(pattern, s) for s in others)
    n = len(section.sentences) - 1
    assert section.sentences[0].startswith(
        f"A difference is shown by {len(worse)} of {n} comparisons."
    )


def test_an_empty_family_names_what_is_missing(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"]["contrastive"]["registers"] = [8]
    table = claim_table(results_of(config, tmp_path))
    assert table is not None
    titles = {section.title: section.sentences for section in table.sections}
    (told,) = titles["Linear probe, (d) Do registers help?"]
    assert told.startswith("Nothing to compare: the matrix lacks runs with and without registers")
    (row,) = next(g.rows for g in table.groups if g.title.startswith("Linear probe, (d)"))
    assert row.cells == (None,) * 5
    assert "matrix lacks runs with and without registers" in row.notes[0]


def test_without_runs_there_are_no_claims(tmp_path: Path) -> None:
    config = small_config()
    config["matrix"] = {"baselines": ["mae"]}
    assert claim_table(results_of(config, tmp_path)) is None


def test_transductive_runs_are_compared_with_transductive_ones(tmp_path: Path) -> None:
    config = small_config()
    config["corpora"]["all"] = {
        "surveys": ["mgcls"],
        "guards": ["mirabest"],
        "transductive": ["rgz"],
    }
    found = list(claims(results_of(config, tmp_path), "finetune", QUESTION["c"]))
    roles = {(claim.benchmark, claim.role) for claim in found}
    assert roles == {("mirabest", "inductive"), ("rgz", "transductive")}
