"""What the pages say holds: commands run, overlays are valid, links lead somewhere, names exist."""

import contextlib
import csv
import dataclasses
import io
import os
import re
import shlex
import subprocess
import sys
import types
import typing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stradavit.cli import build_parser
from stradavit.evaluation.folds import repeated_folds
from stradavit.evaluation.metrics import FoldOutcome, write_outcomes
from stradavit.paper.cells import Configuration, Results
from stradavit.paper.scores import spread_of
from stradavit.paper.tables import write_tables
from stradavit.settings import Settings
from stradavit.settings.base import Block
from tests.conftest import REPOSITORY
from tests.unit.paper.fake_data import write_data
from tests.unit.paper.fake_results import full_config, small_config, write_all_metrics
from tests.workflow.conftest import BIN, copy_workflow

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
OWN_DATA = REPOSITORY / "docs" / "own-data.md"
# Overlays of this page are laid over the paper at full scale.
DATA = REPOSITORY / "docs" / "data.md"
PAPER = REPOSITORY / "workflow" / "config" / "paper.yaml"
BLOCKS = tuple(Settings.model_fields)
SHARED = "STRADAVIT_SHARED_DATA"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# -- reading pages ------------------------------------------------------------------------------


def fenced(page: Path, language: str) -> list[str]:
    """Code blocks of a language; blocks inside lists are indented."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(), re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in blocks]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.M | re.S)


def inline(page: Path) -> list[str]:
    """Everything between backticks."""
    return re.findall(r"`([^`]+)`", prose(page))


def commands(*programs: str) -> list[tuple[str, ...]]:
    """Command lines of all pages that begin with one of the programs, each once."""
    lines = [
        shlex.split(line, comments=True)
        for page in PAGES
        for block in fenced(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return sorted({tuple(words) for words in lines if words and words[0] in programs})


def overlays(page: Path) -> list[dict[str, Any]]:
    """YAML blocks that are settings; a cluster profile is none."""
    found = [yaml.safe_load(block) for block in fenced(page, "yaml")]
    return [overlay for overlay in found if set(overlay) <= set(BLOCKS)]


# -- commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", commands("stradavit"), ids=" ".join)
def test_stradavit_commands_parse(command: tuple[str, ...]) -> None:
    with contextlib.ExitStack() as stack:
        if "--help" in command:
            stack.enter_context(pytest.raises(SystemExit, match=r"^0$"))
        build_parser().parse_args(command[1:])


@each_page
def test_subcommands_named_in_the_text_exist(page: Path) -> None:
    named = {code.split()[1] for code in inline(page) if re.match(r"stradavit [a-z-]+( |$)", code)}
    for word in named:
        with pytest.raises(SystemExit, match=r"^0$"), contextlib.redirect_stdout(io.StringIO()):
            build_parser().parse_args([word, "--help"])


def test_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = {word for command in commands("make") for word in command[1:] if "=" not in word}
    assert named
    assert named <= targets


def with_example_files(value: Any, folder: Path) -> Any:
    """Settings whose absolute paths and patterns are moved into `folder`, each with a file."""
    if isinstance(value, dict):
        return {key: with_example_files(entry, folder) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_example_files(entry, folder) for entry in value]
    if not isinstance(value, str) or not value.startswith(("/", f"${{{SHARED}}}")):
        return value
    moved = f"{folder}/{value.replace(f'${{{SHARED}}}', 'shared').lstrip('/')}"
    example = Path(moved.replace("**/", "").replace("*", "example"))
    if example.suffix:
        example.parent.mkdir(parents=True, exist_ok=True)
        example.write_text("filename,label,ra_deg,dec_deg\n")
    else:
        example.mkdir(parents=True, exist_ok=True)
    return moved


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow, with the files the pages speak of beside it."""
    folder = copy_workflow(REPOSITORY, tmp_path_factory.mktemp("docs"))
    merged: dict[str, Any] = {}
    for overlay in overlays(OWN_DATA):
        for block, entries in with_example_files(overlay, folder).items():
            merged.setdefault(block, {}).update(entries)
    (folder / "my.yaml").write_text(yaml.safe_dump(merged))
    real = yaml.safe_load((folder / "workflow" / "config" / "real.yaml").read_text())
    with_example_files(real, folder)
    profile = next(
        yaml.safe_load(block)
        for block in fenced(REPOSITORY / "README.md", "yaml")
        if block.startswith("# my-cluster/config.yaml")
    )
    del profile["executor"]  # its plugin is not among our dependencies
    (folder / "my-cluster").mkdir()
    (folder / "my-cluster" / "config.yaml").write_text(yaml.safe_dump(profile))
    return folder


def test_snakemake_commands_plan_what_they_name(workplace: Path) -> None:
    plans = {
        tuple(word for word in command if word not in ("-n", "--dry-run"))
        for command in commands("snakemake")
    }
    assert len(plans) >= 6
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        SHARED: str(workplace / "shared"),
    }

    def fault(plan: tuple[str, ...]) -> str | None:
        done = subprocess.run(
            [BIN / plan[0], *plan[1:], "--dry-run"],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        if done.returncode:
            return f"{' '.join(plan)}\n{output}"
        # Options such as --forcerun take a target that follows them; then the rule `all` is made.
        has_target = any(word.startswith("results/") for word in plan)
        if has_target and re.search(r"^all +1$", output, re.M):
            return f"{' '.join(plan)}: an option swallows the target"
        return None

    with ThreadPoolExecutor(2) as pool:
        faults = [found for found in pool.map(fault, sorted(plans)) if found]
    assert not faults, "\n".join(faults)


# -- settings -----------------------------------------------------------------------------------


def test_every_overlay_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path))
    assert len(overlays(OWN_DATA)) >= 4
    assert len(overlays(DATA)) >= 5
    for page in PAGES:
        below = [PAPER] if page == DATA else []
        for overlay in overlays(page):
            path = tmp_path / "overlay.yaml"
            path.write_text(yaml.safe_dump(overlay))
            Settings.read(REPOSITORY / "config.yaml", *below, path)


def step(annotation: Any, word: str) -> list[Any]:
    """What may stand under the key `word` of a block, or of each block of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        fields = annotation.model_fields
        return [fields[word].annotation] if word in fields else []
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return [inner[1]] if word == "<name>" else []
    if origin in (typing.Annotated, typing.Union, types.UnionType):
        return [found for kind in inner for found in step(kind, word)]
    return []


def key_exists(dotted: str) -> bool:
    """Whether the settings have a key; `<name>` stands for any entry of a mapping."""
    kinds: list[Any] = [Settings]
    for word in dotted.split("."):
        kinds = [found for kind in kinds for found in step(kind, word)]
    return bool(kinds)


@pytest.mark.parametrize(
    ("dotted", "exists"),
    [
        ("views.crops.ioa_min", True),
        ("surveys.<name>.seed", True),
        ("views.crops.iou_min", False),
        ("surveys.mgcls.seed", False),
        ("views.crops.ioa_min.more", False),
    ],
)
def test_a_key_that_is_not_there_is_noticed(dotted: str, exists: bool) -> None:
    assert key_exists(dotted) is exists


@each_page
def test_settings_named_in_the_text_exist(page: Path, tmp_path: Path) -> None:
    pattern = re.compile(rf"((?:{'|'.join(BLOCKS)})(?:\.(?:\w+|<name>))+)(?:: (.+))?")
    named = [match for code in inline(page) if (match := pattern.fullmatch(code))]
    unknown = [match[1] for match in named if not key_exists(match[1])]
    assert not unknown
    for match in named:
        if match[2] and "<name>" not in match[1]:
            nested: Any = yaml.safe_load(match[2])
            for word in reversed(match[1].split(".")):
                nested = {word: nested}
            path = tmp_path / "overlay.yaml"
            path.write_text(yaml.safe_dump(nested))
            Settings.read(REPOSITORY / "config.yaml", path)


def changed(block: Block, default: Block, prefix: str) -> list[str]:
    """Dotted paths of the settings that are not the default ones."""
    paths = []
    for name in type(block).model_fields:
        ours, theirs = getattr(block, name), getattr(default, name)
        if isinstance(ours, Block):
            paths += changed(ours, theirs, f"{prefix}.{name}")
        elif ours != theirs:
            paths.append(f"{prefix}.{name}")
    return paths


def test_method_lists_how_the_default_run_differs_from_the_paper() -> None:
    settings = Settings.read(REPOSITORY / "config.yaml")
    ours = []
    for name in ("cutouts", "views", "training", "evaluation", "detection"):
        default = Settings.model_fields[name].get_default()
        ours += changed(getattr(settings, name), default, name)
    ours.remove("detection.sets")
    page = (REPOSITORY / "docs" / "method.md").read_text()
    _, _, last = page.partition("## The default run is not the paper's")
    listed = re.findall(r"`((?:cutouts|views|training|evaluation|detection)\.[\w.]+)`", last)
    assert sorted(set(listed)) == sorted(ours)


# -- names --------------------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in slugs(linked), target


@each_page
def test_files_named_in_the_text_exist(page: Path) -> None:
    modules = {path.name for path in (REPOSITORY / "stradavit").rglob("*.py")}
    top = ("stradavit/", "workflow/", "docs/", "tests/", "profiles/", "envs/")
    for code in inline(page):
        if code.startswith(top) and re.fullmatch(r"[\w./-]+", code):
            assert (REPOSITORY / code).exists(), code
        elif re.fullmatch(r"\w+\.py", code):
            assert code in modules, code


def test_readme_lists_the_rules_and_the_tables() -> None:
    text = (REPOSITORY / "README.md").read_text()
    rules = {
        name
        for path in (REPOSITORY / "workflow" / "rules").glob("*.smk")
        for name in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    assert not {rule for rule in rules if f"`{rule}`" not in text}


# -- the number behind a cell -------------------------------------------------------------------


def test_the_script_of_architecture_recomputes_a_cell(tmp_path: Path) -> None:
    overlay = tmp_path / "seeds.yaml"
    overlay.write_text(
        "{training: {seeds: [42, 43]}, matrix: {detection: {sar: null, radio: null}}}"
    )
    settings = Settings.read(REPOSITORY / "config.yaml", overlay)
    write_all_metrics(settings, tmp_path / "results")
    rng = np.random.default_rng(7)
    labelled = types.SimpleNamespace(
        classes=["1c1p", "1c2p", "2c2p"],
        labels=np.arange(12) % 3,
        sources=[f"source {number}" for number in range(12)],
        images=[f"image {number}" for number in range(12)],
    )
    for seed in (42, 43):
        name = f"two_stage_vit-tiny_l2_l1_soft_hcl_r4_all_s{seed}"
        write_outcomes(
            tmp_path / "results" / "metrics" / "linear_probe" / name / "rgz_dr1.json",
            labelled,
            [
                FoldOutcome(fold, 8, np.arange(4) + 4 * fold, rng.dirichlet(np.ones(3), 4))
                for fold in range(3)
            ],
            names=(name, "rgz_dr1"),
            protocol="linear_probe",
            settings={},
            code="",
            provenance={},
        )
    configuration = Configuration("two_stage", "vit-tiny", 4, "l2_l1", "soft_hcl")
    results = Results(settings, tmp_path / "results")
    score = results.score("linear_probe", configuration, "rgz_dr1")
    assert score is not None
    spread = spread_of(score.macro_f1)
    (script,) = fenced(REPOSITORY / "docs" / "architecture.md", "python")
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == f"{spread.mean:.3f} ± {spread.std:.3f}"
    assert spread.std > 0


# -- every number of a table --------------------------------------------------------------------

RESULT_TABLES = (
    "06_baselines_probe", "07_baselines_finetune", "08_reconstruction_probe",
    "09_reconstruction_finetune", "10_contrastive_probe", "11_contrastive_finetune",
    "12_dinov2_init", "13_two_stage_probe", "14_two_stage_finetune", "15_deltas",
    "20_knn", "22_leave_one_survey_out",
)  # fmt: skip
RECOMPUTE = REPOSITORY / "docs" / "recompute.md"


def write_real_metrics(settings: Settings, results_dir: Path) -> None:
    """Every metrics file the matrix asks for, by the stages' own writer, of drawn predictions."""
    evaluation = settings.evaluation
    for number, (protocol, encoder, benchmark) in enumerate(settings.cells()):
        n_classes = 2 + list(settings.benchmarks).index(benchmark)
        labelled = types.SimpleNamespace(
            classes=[f"class {label}" for label in range(n_classes)],
            labels=np.arange(24 * n_classes) % n_classes,
            sources=[f"source {image}" for image in range(24 * n_classes)],
            images=[f"image {image}" for image in range(24 * n_classes)],
        )
        blocks = {"linear_probe": "probe", "finetune": "finetune", "knn": "knn"}
        recipe = getattr(evaluation, blocks[protocol])
        # Seeds of a run are about equally good, starts are mediocre.
        kind = np.random.default_rng(list(f"{protocol} {encoder.rpartition('_s')[0]}".encode()))
        skill = 1.5 if encoder.startswith("start") else kind.uniform(-3.0, 6.0)
        rng = np.random.default_rng(number)
        outcomes = []
        for split in repeated_folds(labelled, evaluation.folds, recipe.repeats):
            truth = np.eye(n_classes)[labelled.labels[split.test]]
            votes = np.exp(skill * truth + rng.gumbel(size=truth.shape))
            shares = votes / votes.sum(axis=1, keepdims=True)
            outcome = FoldOutcome(split.fold, len(split.train), split.test, shares)
            outcomes.append(dataclasses.replace(outcome, repeat=split.repeat))
        write_outcomes(
            results_dir / "metrics" / protocol / encoder / f"{benchmark}.json",
            labelled,
            outcomes,
            names=(encoder, benchmark),
            protocol=protocol,
            settings={},
            code="",
            provenance={},
        )


def small_with_ours() -> dict[str, Any]:
    """Some of the paper's runs, four seeds, and the tables of ours that the page speaks of."""
    config = small_config()
    config["matrix"]["leave_out"] = ["mgcls"]
    config["training"] = {"seeds": [1, 2, 3, 4]}
    return config | {"evaluation": {"protocols": ["linear_probe", "finetune", "knn"]}}


@pytest.fixture(
    scope="module",
    params=[full_config, small_with_ours],
    ids=["all of the paper, one seed", "some of it and of ours, four seeds"],
)
def real_tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `results/` holds metrics and tables of a matrix."""
    config = request.param()
    config.setdefault("evaluation", {})["probe"] = {"repeats": 3}
    settings, folder = Settings.parse(config), tmp_path_factory.mktemp("recompute")
    results_dir = folder / "results"
    write_real_metrics(settings, results_dir)
    write_data(settings, results_dir)
    write_tables(settings, results_dir, results_dir / "tables")
    return folder


def run_recompute(folder: Path, table: str) -> list[list[str]]:
    """What both scripts of the page print about a table, line by line in columns."""
    numbers, tests = fenced(RECOMPUTE, "python")
    printed, before = io.StringIO(), (Path.cwd(), sys.argv)
    try:
        os.chdir(folder)
        sys.argv = ["recompute.py", f"results/tables/{table}.csv"]
        with contextlib.redirect_stdout(printed):
            exec(compile(f"{numbers}\n{tests}", str(RECOMPUTE), "exec"), {})
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    return [line.split("\t") for line in printed.getvalue().splitlines()]


@pytest.mark.parametrize("table", RESULT_TABLES)
def test_the_script_of_recompute_gives_every_number_of_a_table(
    real_tables: Path, table: str, request: pytest.FixtureRequest
) -> None:
    folder = real_tables / "results" / "tables"
    if not (folder / f"{table}.csv").exists():
        assert int(table[:2]) >= 18, "those of the paper are always there"
        return
    lines = run_recompute(real_tables, table)
    cells = [(key, [float(n) for n in numbers]) for key, *numbers in lines if numbers[0] != "p"]
    tests = sorted(
        (key, float(p), float(adjusted))
        for key, *_, p, adjusted in (line for line in lines if line[1] == "p")
    )
    with (folder / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Against the CSV, which has all digits.
    keys = [name.removesuffix(" mean") for name in rows[0] if name.endswith(" mean")]
    written = [
        (key, [float(row[f"{key} {part}"]) for part in ("mean", "std", "low", "high")])
        for row in rows
        for key in keys
        if row[f"{key} mean"]
    ]
    assert len(cells) == len(written)
    for (key, found), (expected_key, expected) in zip(cells, written, strict=True):
        assert key == expected_key
        # The interval of a score ends where F1 does.
        lowest, highest = (-np.inf, np.inf) if key.endswith("difference") else (0.0, 1.0)
        shown = [*found[:2], *np.clip(found[2:], lowest, highest)]
        assert shown == pytest.approx(expected, abs=1e-12)
    tested = [key for key in keys if f"{key} p" in rows[0]]
    values = sorted(
        (key, float(row[f"{key} p"]), float(row[f"{key} p_holm"]))
        for row in rows
        for key in tested
        if row[f"{key} p"]
    )
    assert [test[0] for test in tests] == [value[0] for value in values]
    for test, value in zip(tests, values, strict=True):
        assert test[1:] == pytest.approx(value[1:], abs=1e-9)
    # Against print: the same numbers in the same order, with three decimals.
    text = (folder / f"{table}.md").read_text(encoding="utf-8").replace("−", "-")
    number, p_value = r"([+-]?\d?\.\d+)", r"(?:, p ([=<]) ([\d.]+))?"
    printed = re.findall(rf"{number} ± {number} \[{number}, {number}\]{p_value} ?([▲▼]?) \|", text)
    assert len(printed) == len(written)
    corrected = [
        (row[f"{key} mark"], float(row[f"{key} p_holm"])) if row.get(f"{key} p") else ("", 1.0)
        for row in rows
        for key in keys
        if row[f"{key} mean"]
    ]
    for (*digits, sign, p, mark), (key, expected), (expected_mark, p_holm) in zip(
        printed, written, corrected, strict=True
    ):
        assert [float(n) for n in digits] == pytest.approx(expected, abs=5.001e-4)
        assert mark == expected_mark
        assert (mark != "") == (p_holm < 0.05)
        assert (sign != "") == key.endswith("difference")
        if sign == "=":
            assert float(p) == pytest.approx(p_holm, abs=5.001e-3 if p_holm > 0.0995 else 5.001e-4)
        if sign == "<":
            assert p_holm < float(p)
    is_complete = all(row[f"{key} mean"] for row in rows for key in keys)
    assert (is_complete and cells) or "four seeds" in request.node.callspec.id


def test_some_tests_of_the_recomputed_tables_are_significant(real_tables: Path) -> None:
    texts = [path.read_text() for path in (real_tables / "results" / "tables").glob("1*.md")]
    assert any("▲ |" in text for text in texts)
    assert any("▼ |" in text for text in texts)
