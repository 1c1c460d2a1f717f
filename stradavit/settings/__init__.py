"""The whole configuration: `Settings.parse(config)` checks all of it at once.

Blocks that decide results are kept apart from `loader` and `archives`, which decide only speed and
where bytes come from: rules pass the former as parameters (a change replans) and the latter outside
them (a change replans nothing).
"""

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from stradavit.errors import SettingsError
from stradavit.settings.archives import ArchiveSettings
from stradavit.settings.base import Block, Count, Positive, merge
from stradavit.settings.encoders import Encoder, ScratchDinov2Encoder, ScratchEncoder
from stradavit.settings.evaluation import EvaluationSettings, Protocol
from stradavit.settings.matrix import (
    CorpusSettings,
    EncoderNode,
    MatrixSettings,
    expand_matrix,
    parent_of,
)
from stradavit.settings.sources import KINDS, Benchmark, Survey
from stradavit.settings.training import (
    ContrastiveSettings,
    LoaderSettings,
    PretrainSettings,
    ReconstructionSettings,
    TrainingSettings,
)
from stradavit.settings.views import ViewSettings

Role = Literal["inductive", "transductive"]


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
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    loader: LoaderSettings = LoaderSettings()
    archives: ArchiveSettings = ArchiveSettings()

    @field_validator("surveys", "benchmarks", "corpora", "encoders", mode="before")
    @classmethod
    def _null_removes(cls, entries: Any) -> Any:
        # Overlays merge into config.yaml; `mgcls: null` is how one takes an entry out again.
        if not isinstance(entries, dict):
            return entries
        return {name: _of_its_kind(entry) for name, entry in entries.items() if entry is not None}

    @model_validator(mode="after")
    def _references_exist(self) -> "Settings":
        faults: list[str] = []

        def check(path: str, names: tuple[str, ...], known: dict[str, Any]) -> None:
            faults.extend(
                f"{path} names {name!r}, which is not among {sorted(known)}"
                for name in names
                if name not in known
            )

        for block in ("surveys", "benchmarks", "corpora", "encoders"):
            faults.extend(
                f"{block}.{name}: use ASCII letters, digits, '.', '_', '-' only, a letter or digit "
                "first: names become file names"
                for name in getattr(self, block)
                if not is_safe_name(name)
            )
        for name, corpus in self.corpora.items():
            check(f"corpora.{name}.surveys", corpus.surveys, self.surveys)
            check(f"corpora.{name}.guards", corpus.guards or (), self.benchmarks)
            check(f"corpora.{name}.transductive", corpus.transductive, self.benchmarks)
        matrix = self.matrix
        check("matrix.corpora", matrix.corpora, self.corpora)
        check("matrix.baselines", matrix.baselines, self.encoders)
        known = self.corpora.get(matrix.corpora[0]) if matrix.corpora else None
        if known is not None:
            check("matrix.leave_out", matrix.leave_out, dict.fromkeys(known.surveys))
            if matrix.leave_out and len(known.surveys) < 2:
                faults.append("matrix.leave_out: the first corpus has no other survey")
        faults.extend(
            f"corpora.{name} has the name that matrix.leave_out gives to the first corpus without "
            f"{survey}; rename it"
            for name, survey in (matrix.reduced_corpora if matrix.corpora else {}).items()
            if name in self.corpora
        )
        if matrix.leave_out and matrix.selected_start is None:
            faults.append(
                "matrix.leave_out: matrix.selected says which model is trained without each "
                "survey, but it is missing or its branch has no starts"
            )
        check("matrix.dinov2_references", matrix.dinov2_references, self.encoders)
        check("matrix.reference", (matrix.reference,) if matrix.reference else (), self.encoders)
        for grid in ("reconstruction", "contrastive", "dinov2", "two_stage"):
            starts = getattr(matrix, grid).starts
            check(f"matrix.{grid}.starts", starts, self.encoders)
            for start in starts:
                if isinstance(self.encoders.get(start), ScratchDinov2Encoder) and (
                    grid != "dinov2" or set(matrix.dinov2.registers) - {0}
                ):
                    faults.append(
                        f"matrix.{grid}.starts names {start!r}, a DINOv2: it trains by the grid "
                        "matrix.dinov2 only, with registers: [0], which leaves those of its "
                        "architecture as they are"
                    )
                found = self.scratch_registers.get(start)
                others = [r for r in getattr(matrix, grid).registers if found and r != found]
                if others:
                    faults.append(
                        f"matrix.{grid}.registers asks for {others} from the start {start!r}, "
                        f"which has {found}: registers can only be added to a start without any; "
                        f"set encoders.{start}.registers to 0"
                    )
        if faults:
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

    def guards(self, corpus: str) -> tuple[str, ...]:
        """Benchmarks whose sky the corpus leaves out."""
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
        """Whether `node` is trained only so that the selected model can start from it."""
        if node.corpus not in self.matrix.reduced_corpora:
            return False
        return node != self.matrix.selected_node(node.corpus, node.seed or 0)

    def pretrain_settings(self, node: EncoderNode) -> PretrainSettings:
        """All that decides the weights of the run `node`."""
        assert node.branch != "start" and node.seed is not None
        loss = node.contrastive_loss or node.reconstruction_loss
        assert loss is not None
        phase: ReconstructionSettings | ContrastiveSettings
        if node.contrastive_loss is None:
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
        views = self.views.model_copy(update={name: getattr(usual, name) for name in unused})
        return PretrainSettings(
            objective="contrastive" if node.contrastive_loss else "reconstruction",
            loss=loss,
            registers=node.registers,
            seed=node.seed,
            phase=phase,
            views=views,
        )


def is_safe_name(name: str) -> bool:
    """Whether a name from the config can stand in a file name and in an encoder's name."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
