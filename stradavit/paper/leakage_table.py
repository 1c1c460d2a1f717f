"""Table 24 (ours): images that show the same sky, and whether they were trained and tested on.

The reports come from `stradavit.evaluation.leakage`, whose docstring says what each key means.
"""

from pathlib import Path
from typing import Any

from stradavit.errors import DataError
from stradavit.files import read_json
from stradavit.paper.captions import guard_sentence
from stradavit.paper.cells import Results
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Section, Table
from stradavit.paper.names import benchmark_title
from stradavit.provenance import code_hash
from stradavit.settings import Settings

CLUES = {
    "position_only": "position alone",
    "content_only": "content alone",
    "both": "position and content",
}
IN_FOLDS = ("one_source", "one_fold", "across_folds")
IN_SPLIT = ("one_side", "across")


def leakage_table(results: Results) -> Table | None:
    """Table 24; None if no benchmark was searched for images of the same sky."""
    settings = results.settings
    folder = results.results_dir / "leakage"
    reports = {
        name: read_report(path, name)
        for name in settings.benchmarks
        if (path := folder / f"{name}.json").is_file()
    }
    if not reports:
        return None
    folds, leakage = settings.evaluation.folds, settings.evaluation.leakage
    columns = (
        Column("images", "Images"),
        Column("sources", "Sources"),
        Column("without_position", "without position"),
        Column("indistinct", "without structure"),
        *(
            Column(f"across_folds {clue}", words, "Pairs across folds, found by")
            for clue, words in CLUES.items()
        ),
        Column("one_fold", "of two sources", "Pairs in one fold"),
        Column("one_source", "of one source", "Pairs in one fold"),
        Column("across_published", "across it", "Pairs in the published division"),
        Column("one_side_published", "on one side", "Pairs in the published division"),
    )
    caption = (
        "Pairs of images that may show the same sky: by position, their coordinates are closer "
        f"than {leakage.same_source_arcsec:g} arcsec; by content, their pixels agree. Neither "
        "alone is proof: positions can be wrong, and images without structure look alike, so that "
        "of those only exact copies are found. One image of a pair across folds is trained on and "
        "the other tested on; pairs of one source are always in one fold. "
        f"{folds.count} folds, fold seed {folds.seed}, first repeat. {guard_sentence(results)}"
    )
    return Table(
        number=24,
        slug="leakage",
        title="Images of the same sky",
        caption=caption,
        heads=(Head("benchmark", "Benchmark"),),
        columns=columns,
        groups=(RowGroup(tuple(_row(settings, n, report) for n, report in reports.items())),),
        sections=tuple(
            Section(f"Pairs of {benchmark_title(settings, name)}", sentences)
            for name, report in reports.items()
            if (sentences := _examples(report))
        ),
    )


def read_report(path: Path, benchmark: str) -> dict[str, Any]:
    """The leakage report of a benchmark.

    Raises
    ------
    DataError
        If it is not what the stage `leakage` writes, or about another benchmark.
    """
    try:
        report: dict[str, Any] = read_json(path)
        if report["benchmark"] != benchmark:
            raise ValueError(f"is about {report['benchmark']}, expected {benchmark}")
        for key in ("n_images", "n_sources", "n_without_position", "n_indistinct"):
            _count(report[key], key)
        divisions: list[tuple[str, tuple[str, ...]]] = [("pairs", IN_FOLDS)]
        if report["published_split"] is not None:
            divisions.append(("published_split", IN_SPLIT))
        for division, places in divisions:
            for clue in CLUES:
                for place in places:
                    _count(report[division][clue][place], f"{division}.{clue}.{place}")
        _examples(report)
        dict(report["settings"]), str(report["code"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a leakage report ({type(error).__name__}: {error}). Delete it and run "
            f"`snakemake {path}`."
        ) from error
    return report


def _count(value: Any, key: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a number of images or pairs")


def _row(settings: Settings, benchmark: str, report: dict[str, Any]) -> Row:
    pairs, split = report["pairs"], report["published_split"]

    def summed(division: dict[str, dict[str, int]] | None, place: str) -> Cell:
        return None if division is None else sum(division[clue][place] for clue in CLUES)

    cells: tuple[Cell, ...] = (
        report["n_images"],
        report["n_sources"],
        report["n_without_position"],
        report["n_indistinct"],
        *(pairs[clue]["across_folds"] for clue in CLUES),
        summed(pairs, "one_fold"),
        summed(pairs, "one_source"),
        summed(split, "across"),
        summed(split, "one_side"),
    )
    return Row((benchmark_title(settings, benchmark),), cells, _remarks(settings, report))


def _remarks(settings: Settings, report: dict[str, Any]) -> tuple[str, ...]:
    """How a report differs from what the present config and code would give."""
    evaluation = settings.evaluation
    now = {
        "folds": evaluation.folds.model_dump(mode="json"),
        "leakage": evaluation.leakage.model_dump(mode="json"),
    }
    remarks = []
    if report["settings"] != now:
        remarks.append(f"{report['benchmark']} was searched with other settings than the config's.")
    if report["code"] != code_hash("stradavit.evaluation.leakage"):
        remarks.append(f"{report['benchmark']} was searched by another version of the code.")
    return tuple(remarks)


def _examples(report: dict[str, Any]) -> tuple[str, ...]:
    """The pairs that are worth a look: those of two sources."""
    pairs = report["examples"]
    return tuple(_example(pair) for pair in pairs if len(set(pair["sources"])) > 1)


def _example(example: dict[str, Any]) -> str:
    """A pair in words: which images, where they are, what speaks for them."""
    (one, other), (first, second) = example["images"], example["folds"]
    ours, theirs = example["classes"]
    where = f"both in fold {first}" if first == second else f"folds {first} and {second}"
    details = [f"by {CLUES[example['found_by']]}"]
    if example["separation_arcsec"] is not None:
        details.append(f"{float(example['separation_arcsec']):.1f} arcsec apart")
    if example["similarity"] is not None:
        details.append(f"similarity {float(example['similarity']):.3f}")
    return f"{one} ({ours}) and {other} ({theirs}), {where}: {', '.join(details)}."
