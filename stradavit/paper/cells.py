"""Find the numbers of a cell by its coordinates.

A cell is a protocol, a configuration (branch, start, losses, registers) and a benchmark; its
number comes from one metrics file per seed, of the runs on the first corpus that guards the
benchmark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from stradavit.cutouts.corpus import Corpus
from stradavit.errors import DataError
from stradavit.paper.detection_files import detection_file
from stradavit.paper.metric_files import Metrics, read_metrics
from stradavit.paper.remarks import Remarks
from stradavit.paper.scores import Score, stack
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol
from stradavit.settings.matrix import Branch, EncoderNode
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

Role = Literal["inductive", "transductive"]

MISSING_SHOWN = 5


@dataclass(frozen=True)
class Configuration:
    """What a row of a table is about; corpus and seed are settled by the lookup."""

    branch: Branch
    start: str
    registers: int | None = None
    reconstruction_loss: ReconstructionLoss | None = None
    contrastive_loss: ContrastiveLoss | None = None

    @classmethod
    def of(cls, node: EncoderNode) -> "Configuration":
        """What `node` is a run of; a start is known by its name alone."""
        if node.branch == "start":
            return cls("start", node.start)
        losses = node.reconstruction_loss, node.contrastive_loss
        return cls(node.branch, node.start, node.registers, *losses)

    @property
    def own_start(self) -> "Configuration":
        """The encoder it was trained from, of a two-stage run that before both stages."""
        return Configuration("start", self.start)


class Results:
    """Metrics of the encoders of a config's matrix.

    Its nodes are those that benchmarks score; runs on chips and starts that only detection needs
    are not among them.

    Parameters
    ----------
    settings : the whole config
    results_dir : folder that holds `metrics/`, `encoders/` and `corpora/`

    Raises
    ------
    DataError
        If the matrix asks for cells whose metrics file does not exist.
    """

    def __init__(self, settings: Settings, results_dir: Path) -> None:
        self.settings = settings
        self.results_dir = Path(results_dir)
        self.nodes = {name: n for name, n in settings.nodes().items() if _is_scored(settings, n)}
        cells = settings.cells()
        wanted = [self.metrics_path(*cell) for cell in cells]
        wanted += [self.detection_path(*cell) for cell in settings.detection_cells()]
        missing = [path for path in wanted if not path.is_file()]
        if missing:
            raise DataError(_describe_missing(missing))
        self._cells = set(cells)
        self._remarks = Remarks(settings, self.results_dir)
        # Tables, marks and claims ask for the same cells many times.
        self._read: dict[tuple[str, str, str], Metrics] = {}
        self._scores: dict[tuple[str, tuple[str, ...], str], Score] = {}

    def metrics_path(self, protocol: str, encoder: str, benchmark: str) -> Path:
        """Where the metrics of a cell lie."""
        return self.results_dir / "metrics" / metrics_file(protocol, encoder, benchmark)

    def detection_path(self, encoder: str, detection_set: str, seed: int) -> Path:
        """Where the metrics of a detector lie."""
        return self.results_dir / "metrics" / detection_file(encoder, detection_set, seed)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Starting points the matrix scores, in its order."""
        names = (node.start for node in self.nodes.values() if node.branch == "start")
        return tuple(dict.fromkeys(names))

    @cached_property
    def _by_configuration(self) -> dict[Configuration, list[EncoderNode]]:
        """Nodes of each configuration, of all corpora and seeds."""
        found: dict[Configuration, list[EncoderNode]] = {}
        for node in self.nodes.values():
            found.setdefault(Configuration.of(node), []).append(node)
        return found

    @cached_property
    def corpus_counts(self) -> dict[str, dict[str, dict[str, Any]]]:
        """For each corpus of the matrix what became of the cutouts of each survey."""
        folder = self.results_dir / "corpora"
        return {
            name: Corpus(folder / f"{name}.h5").counts()
            for name in (*self.settings.matrix.corpora, *self.settings.matrix.reduced_corpora)
        }

    def runs(
        self, configuration: Configuration, benchmark: str, role: Role = "inductive"
    ) -> list[EncoderNode]:
        """Runs of a configuration that fill its cell for `benchmark`, one per seed."""
        nodes = self._by_configuration.get(configuration, [])
        fitting = [node for node in nodes if self.settings.role(node, benchmark) == role]
        for corpus in (None, *self.settings.matrix.corpora):
            if chosen := [node for node in fitting if node.corpus == corpus]:
                return chosen
        return []

    def score(
        self,
        protocol: Protocol,
        configuration: Configuration,
        benchmark: str,
        role: Role = "inductive",
    ) -> Score | None:
        """Numbers of a cell; None if the config left it out.

        Raises
        ------
        DataError
            If a metrics file is malformed or does not belong to this cell.
        """
        return self.score_of(protocol, self.runs(configuration, benchmark, role), benchmark)

    def score_of(
        self, protocol: Protocol, runs: Sequence[EncoderNode], benchmark: str
    ) -> Score | None:
        """Numbers of a cell of these runs, one per seed; None if the config left it out.

        Raises
        ------
        DataError
            As `score` does.
        """
        names = tuple(run.name for run in runs)
        if (protocol, names, benchmark) in self._scores:
            return self._scores[protocol, names, benchmark]
        found = self.metrics(protocol, runs, benchmark)
        if not found:
            return None
        score = stack(
            encoders=names,
            files=tuple(metrics_file(protocol, name, benchmark) for name in names),
            classes=[metrics.classes for metrics in found],
            found=[metrics.folds() for metrics in found],
            remarks=self.remarks(protocol, runs, benchmark),
        )
        self._scores[protocol, names, benchmark] = score
        return score

    def metrics(
        self, protocol: Protocol, runs: Sequence[EncoderNode], benchmark: str
    ) -> list[Metrics]:
        """Metrics files of these runs; none at all if the config left them out.

        Raises
        ------
        DataError
            If a file is malformed or does not belong to this cell.
        """
        cells = [(protocol, run.name, benchmark) for run in runs]
        if not all(cell in self._cells for cell in cells):
            return []
        for cell in cells:
            if cell not in self._read:
                self._read[cell] = read_metrics(self.metrics_path(*cell), *cell)
        return [self._read[cell] for cell in cells]

    def remarks(
        self, protocol: Protocol, runs: Sequence[EncoderNode], benchmark: str
    ) -> tuple[str, ...]:
        """What makes the scores of these runs differ from what the present config would give."""
        return tuple(
            dict.fromkeys(
                remark
                for run, metrics in zip(runs, self.metrics(protocol, runs, benchmark), strict=True)
                for remark in self._remarks.of(protocol, run, metrics, benchmark)
            )
        )


def _is_scored(settings: Settings, node: EncoderNode) -> bool:
    if node.branch == "start":
        return node.start in settings.matrix.sky_starts
    return node.corpus is not None and not settings.is_of_chips(node.corpus)


def metrics_file(protocol: str, encoder: str, benchmark: str) -> str:
    """The metrics file of a cell, relative to the folder of metrics."""
    return f"{protocol}/{encoder}/{benchmark}.json"


def _describe_missing(missing: list[Path]) -> str:
    shown = " ".join(str(path) for path in missing[:MISSING_SHOWN])
    rest = len(missing) - MISSING_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    plural = "files are" if len(missing) > 1 else "file is"
    return (
        f"{len(missing)} metrics {plural} missing that the matrix asks for: {shown}{more}. "
        f"Make them with `snakemake {shown}`, or take their encoders out of `matrix`."
    )
