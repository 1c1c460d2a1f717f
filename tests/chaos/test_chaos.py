"""Some faults of the chaos run on a shorter workflow; `python -m tests.chaos` gives it fifty."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import page
from tests.chaos.damage import DAMAGE
from tests.chaos.faults import AT_REST, DAMAGES, SILENT, WHILE_RUNNING, Fault, draw
from tests.chaos.messages import messages, named_files, to_delete
from tests.chaos.runner import Outcome, Result, run_chaos
from tests.chaos.small_workflow import RULES, SHORT, rule_of

SEED, FAULTS = 6, 8


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two minutes and a half on two idle cores, much more on a busy machine
def test_the_same_tables_come_out_after_eight_faults(tmp_path: Path) -> None:
    faults = draw(SEED, FAULTS, SHORT.left_out)
    result = run_chaos(faults, tmp_path / "chaos", SHORT)
    assert sorted(map(str, (outcome.fault for outcome in result.outcomes))) == sorted(
        map(str, faults)
    )
    assert result.n_files > 20


@pytest.mark.parametrize("seed", range(5))
def test_fifty_faults_hold_every_kind_every_rule_and_every_file(seed: int) -> None:
    faults = draw(seed, 50)
    assert len(faults) == 50
    kinds = Counter(fault.kind for fault in faults)
    assert set(kinds) == {*WHILE_RUNNING, *AT_REST}
    struck = {fault.where for fault in faults if fault.kind in ("sigkill-stage", "sigterm-stage")}
    assert struck == set(RULES)
    assert {fault.where for fault in faults if fault.kind == "flip-byte"} == set(DAMAGES)
    is_running = [fault.kind in WHILE_RUNNING for fault in faults]
    assert is_running == sorted(is_running, reverse=True)


def test_a_seed_says_all_and_more_faults_are_more_of_the_same() -> None:
    assert draw(7, 12) == draw(7, 12) != draw(8, 12)
    assert len(draw(7, 80)) == 80
    few = draw(7, 8, SHORT.left_out)
    assert not {fault.where for fault in few} & set(SHORT.left_out)
    assert len({fault.kind for fault in few}) == 8


@pytest.mark.parametrize(("kind", "left"), [("flip-byte", 100), ("truncate", 30), ("delete", 0)])
def test_damage_does_not_show_in_the_time_of_a_file(tmp_path: Path, kind: str, left: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    written = path.stat().st_mtime_ns
    DAMAGE[kind](path, 0.3)
    if kind == "delete":
        assert not path.exists()
        return
    content = path.read_bytes()
    assert (len(content), content.count(1)) == (left, int(kind == "flip-byte"))
    assert path.stat().st_mtime_ns == written


def test_messages_say_which_file_and_what_to_delete(tmp_path: Path) -> None:
    shard, ledger = tmp_path / "results/shards/a/0.h5", tmp_path / "results/raw/a/0.csv"
    text = (
        "2026 INFO starts\n"
        f"stradavit cut-corpus: {tmp_path}/results/corpora/../shards/a/0.h5: damaged. Delete it.\n"
        "    stradavit cut-part: results/raw/a/files/x.fits: is gone, though results/raw/a/0.csv "
        "lists it. Delete the ledger and acquire the part again.\n"
        "stradavit probe: no remedy in results/x.json.\n"
    )
    corpus, part, probe = messages(text)
    assert named_files(corpus, tmp_path) == [shard] == to_delete(corpus, tmp_path)
    assert named_files(part, tmp_path) == [tmp_path / "results/raw/a/files/x.fits", ledger]
    assert to_delete(part, tmp_path) == [ledger]
    assert to_delete(probe, tmp_path) == []


def test_a_stage_is_told_from_the_shell_around_it() -> None:
    assert rule_of(["/bin/sh", "-c", "stradavit probe --out x &> log"]) is None
    assert rule_of(["python", "/bin/stradavit", "label-budget", "--out", "x"]) == "label_budget"
    training = ["python", "stradavit", "pretrain", "--out"]
    assert rule_of([*training, "results/encoders/two_stage_a/w"]) == "pretrain_contrastive"
    assert rule_of([*training, "results/encoders/reconstruction_a/w"]) == "pretrain_reconstruction"
    assert rule_of(["python", "stradavit", "plan"]) is None


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    faults = [Fault("flip-byte", where, 0.5, 0.5) for where in ("shard", "corpus")]
    faults.append(Fault("sigkill-stage", "probe", 0.5, 0.5))
    outcomes = [Outcome(fault, "healed") for fault in faults]
    result = Result(outcomes, 54, 43, 725.0)
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    page.write(path, result, 1)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{page.BEGIN}\n3 faults, seed 1: tables identical (54 files);")
    assert "43 runs; 12 min\n" in text
    assert "| flip-byte | shard, corpus | 2 | healed |\n" in text
    assert text.endswith(f"| sigkill-stage | probe | 1 | healed |\n{page.END}\nafter\n")
    page.write(path, result, 1)
    assert path.read_text(encoding="utf-8") == text
    assert set(SILENT) <= set(AT_REST)
