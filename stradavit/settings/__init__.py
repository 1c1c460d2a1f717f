"""The whole configuration: `Settings.parse(config)` checks all of it at once.

Blocks that decide results are kept apart from `loader` and `archives`, which decide only speed and
where bytes come from: rules pass the former as parameters (a change replans) and the latter outside
them (a change replans nothing).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from stradavit.errors import SettingsError
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.base import Block, Count, Positive, merge
from stradavit.settings.detection import DetectionSettings, DetectorRun, TruthSet
from stradavit.settings.encoders import Encoder, ScratchDinov2Encoder, ScratchEncoder
from stradavit.settings.evaluation import EvaluationSettings, Protocol
from stradavit.settings.matrix import (
    CorpusSettings,
    EncoderNode,
    MatrixSettings,
    expand_matrix,
    parent_of,
    start_node,
)
from stradavit.settings.references import faults_of
from stradavit.settings.sources import KINDS, Benchmark, ChipsSurvey, Survey
from stradavit.settings.training import (
    ContrastiveSettings,
    LoaderSettings,
    PretrainSettings,
    ReconstructionSettings,
    TrainingSettings,
)
from stradavit.settings.views import CHIP_VIEWS, ViewSettings

Role = Literal["inductive", "transductive"]


@dataclass(frozen=True)
class DetectionRow:
    """A row of a table of detection: one encoder, for each pretraining seed it has."""

    title: str
    nodes: tuple[EncoderNode, ...]


class CutoutSettings(Block):
    """How products are cut (paper, section 3.1)."""

    size_px: Count = Field(512, description="Side of a cutout and stride of the tiling.")
    constant_std: Positive = Field(1e-12, description="A cutout with less spread is constant.")
    memory_mb: Count = Field(1024, description="Most memory the pixels of a product may take.")


def _of_its_kind(entry: Any) -> Any:
    """An entry without the nulls that take out what an overlaid entry of another source had."""
    if not isinstance(entry, dict) or entry.get("source") not in KINDS:
        return entry
    known = KINDS[entry["source"]]
    foreign = {key for keys in KINDS.values() for key in keys} - known
    return {key: value for key, value in entry.items() if value is not None or key not in foreign}


class Settings(Block):
    """Everything `config.yaml` may say."""

    cutouts: CutoutSettings = CutoutSettings()
    surveys: dict[str, Survey]
    benchmarks: dict[str, Benchmark]
    corpora: dict[str, CorpusSettings]
    encoders: dict[str, Encoder]
    matrix: MatrixSettings
    views: ViewSettings = ViewSettings()
    chip_views: ViewSettings = Field(
        CHIP_VIEWS, description="As `views`, for runs on chips: the whole chip, flips only."
    )
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    detection: DetectionSettings = DetectionSettings()
    loader: LoaderSettings = LoaderSettings()
    archives: ArchiveSettings = ArchiveSettings()

    @field_validator("surveys", "benchmarks", "corpora", "encoders", mode="before")
    @classmethod
    def _null_removes(cls, entries: Any) -> Any:
        # Overlays merge into config.yaml; `mgcls: null` is how one takes an entry out again.
        if not isinstance(entries, dict):
            return entries
        return {name: _of_its_kind(entry) for name, entry in entries.items() if entry is not None}

    @field_validator("detection", mode="before")
    @classmethod
    def _null_removes_sets(cls, block: Any) -> Any:
        if not isinstance(block, dict) or "sets" not in block:
            return block
        return block | {"sets": cls._null_removes(block["sets"])}

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if faults := faults_of(self):
            raise ValueError("; ".join(faults))
        return self

    @classmethod
    def read(cls, *paths: Path) -> "Settings":
        """Settings from a YAML file and overlays: mappings merge, lists are replaced."""
        merged: dict[str, Any] = {}
        for path in paths:
            try:
                overlay = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            except (OSError, yaml.YAMLError) as error:
                raise SettingsError(f"{path}: cannot be read as YAML: {error}") from error
            if not isinstance(overlay, dict):
                raise SettingsError(f"{path}: expected a mapping of settings at the top level")
            merged = merge(merged, overlay)
        return cls.parse(merged)

    # -- what the matrix asks for -------------------------------------------------------------

    @property
    def scratch_registers(self) -> dict[str, int | None]:
        """Registers of scratch starts; None marks published weights.

        A DINOv2 has those of its shape, whatever a grid asks for: its runs are all of 0.
        """
        registers: dict[str, int | None] = {}
        for name, encoder in self.encoders.items():
            match encoder:
                case ScratchEncoder():
                    registers[name] = encoder.registers
                case ScratchDinov2Encoder():
                    registers[name] = 0
                case _:
                    registers[name] = None
        return registers

    def nodes(self) -> dict[str, EncoderNode]:
        """Every encoder of the matrix by name, parents first."""
        expanded = expand_matrix(self.matrix, self.training.seeds, self.scratch_registers)
        return {node.name: node for node in expanded}

    def parent(self, node: EncoderNode) -> EncoderNode | None:
        """The encoder `node` starts from."""
        return parent_of(node, self.scratch_registers)

    def corpus(self, name: str) -> CorpusSettings:
        """A corpus of the config, or the first one without a survey that `leave_out` names."""
        left_out = self.matrix.reduced_corpora.get(name)
        if left_out is None:
            return self.corpora[name]
        whole = self.corpora[self.matrix.corpora[0]]
        kept = tuple(survey for survey in whole.surveys if survey != left_out)
        return whole.model_copy(update={"surveys": kept})

    def is_of_chips(self, corpus: str) -> bool:
        """Whether a corpus holds chips, and not cutouts of the sky."""
        first = self.surveys.get(self.corpus(corpus).surveys[0])
        return isinstance(first, ChipsSurvey)

    def detection_guards(self, corpus: str) -> tuple[str, ...]:
        """Detection sets whose held-out sky the corpus leaves out."""
        if self.is_of_chips(corpus):
            return ()
        sets = self.detection.sets
        return tuple(name for name in self.matrix.detection if isinstance(sets[name], TruthSet))

    def guards(self, corpus: str) -> tuple[str, ...]:
        """Benchmarks whose sky the corpus leaves out."""
        if self.is_of_chips(corpus):
            return ()
        block = self.corpus(corpus)
        if block.guards is not None:
            return block.guards
        return tuple(name for name in self.benchmarks if name not in block.transductive)

    def role(
        self, node: EncoderNode, benchmark: str
    ) -> Literal["inductive", "transductive"] | None:
        """Whether `node` may be scored on `benchmark`, and how its row must be called."""
        if node.corpus is None or benchmark in self.guards(node.corpus):
            return "inductive"
        if benchmark in self.corpus(node.corpus).transductive:
            return "transductive"
        return None

    def cells(self) -> list[tuple[Protocol, str, str]]:
        """All (protocol, encoder, benchmark) the tables need."""
        return [
            (protocol, node.name, benchmark)
            for protocol in self.evaluation.protocols
            for node in self.nodes().values()
            for benchmark, block in self.benchmarks.items()
            if self.role(node, benchmark)
            and not self._is_only_a_step(node)
            and (protocol != "published_split" or block.publishes_split)
        ]

    def _is_only_a_step(self, node: EncoderNode) -> bool:
        """Whether `node` is only there for another: for the selected model, or for detection."""
        if node.branch == "start":
            return node.start not in self.matrix.sky_starts
        if node.corpus not in self.matrix.reduced_corpora:
            return False
        return node != self.matrix.selected_node(node.corpus, node.seed or 0)

    def pretrain_settings(self, node: EncoderNode) -> PretrainSettings:
        """All that decides the weights of the run `node`."""
        assert node.branch != "start" and node.seed is not None
        loss = node.contrastive_loss or node.reconstruction_loss
        assert loss is not None
        phase: ReconstructionSettings | ContrastiveSettings
        is_of_chips = node.corpus is not None and self.is_of_chips(node.corpus)
        if is_of_chips:
            phase = self.training.chips
        elif node.contrastive_loss is None:
            phase = self.training.reconstruction
        elif node.start in self.matrix.dinov2.starts:
            phase = self.training.dinov2
        else:
            phase = self.training.contrastive
        # The operators of the other objective do not touch this run: a change there must not
        # retrain it.
        unused = (
            ("reconstruction",)
            if node.contrastive_loss
            else ("contrastive_wide", "contrastive_additional")
        )
        usual = ViewSettings()
        views = self.chip_views if is_of_chips else self.views
        views = views.model_copy(update={name: getattr(usual, name) for name in unused})
        return PretrainSettings(
            objective="contrastive" if node.contrastive_loss else "reconstruction",
            loss=loss,
            registers=node.registers,
            seed=node.seed,
            devices=self.training.devices,
            phase=phase,
            views=views,
        )

    # -- detection ----------------------------------------------------------------------------

    def detection_rows(self, name: str) -> list[DetectionRow]:
        """The encoders that a detection set compares, in the order of its table."""
        grid, seeds = self.matrix.detection[name], self.training.seeds
        scratch = self.scratch_registers
        rows = []
        for start in grid.baselines:
            nodes = [start_node(start, seed, scratch) for seed in seeds]
            rows.append(DetectionRow(self.start_title(start), tuple(dict.fromkeys(nodes))))
        if grid.chips:
            # By what they are, not by title: runs that differ in more than the seed are no repeats.
            runs: dict[EncoderNode, list[EncoderNode]] = {}
            for run in self.nodes().values():
                if run.corpus in self.matrix.chips.corpora:
                    runs.setdefault(replace(run, seed=None), []).append(run)
            rows += [DetectionRow(self._chips_title(of[0]), tuple(of)) for of in runs.values()]
        if grid.selected:
            nodes = [
                node
                for seed in seeds
                if (node := self.matrix.selected_node(self.matrix.corpora[0], seed))
            ]
            rows.append(DetectionRow("STRADAViT (selected model)", tuple(nodes)))
        return rows

    def used_detection_sets(self) -> list[str]:
        """Sets that encoders are compared on or that chips come from, in the config's order."""
        used = set(self.matrix.detection)
        for corpus in self.matrix.chips.corpora:
            surveys = [self.surveys[survey] for survey in self.corpora[corpus].surveys]
            used |= {survey.detection for survey in surveys if isinstance(survey, ChipsSurvey)}
        return [name for name in self.detection.sets if name in used]

    def detection_cells(self) -> list[tuple[str, str, int]]:
        """All (encoder, detection set, seed) the tables need."""
        return [
            (node.name, name, seed)
            for name in self.matrix.detection
            for row in self.detection_rows(name)
            for node in row.nodes
            for seed in self.detection.training.seeds
        ]

    def detector_run(self, seed: int) -> DetectorRun:
        """All that decides the weights of a detector, besides encoder and images."""
        # What other seeds there are does not touch this training.
        training = self.detection.training.model_copy(update={"seeds": (seed,)})
        return DetectorRun(detector=self.detection.detector, training=training, seed=seed)

    def start_title(self, start: str) -> str:
        """Name of a starting point in the tables."""
        return self.encoders[start].title or start

    def _chips_title(self, node: EncoderNode) -> str:
        assert node.corpus is not None
        grid = self.matrix.chips
        words = [self.corpora[node.corpus].title or node.corpus]
        if len(grid.losses) > 1:
            words.append(str(node.reconstruction_loss))
        if len(grid.registers) > 1:
            words.append(f"R = {node.registers}")
        scratch = {start for start in grid.starts if self.scratch_registers[start] is not None}
        origin = "" if scratch == {node.start} else f" from {self.start_title(node.start)}"
        return ", ".join(words) + origin
