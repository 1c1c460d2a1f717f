"""The experiment matrix: from the lists in the config to named encoders and cells.

An encoder of the matrix is a *start* (a baseline) or a *run* (one training). Its name spells its
coordinates, `branch_start_losses_rR_corpus_sSEED`, so a file found in `results/` explains itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from stradavit.errors import SettingsError
from stradavit.settings.base import Block
from stradavit.settings.training import ContrastiveLoss, ReconstructionLoss

Branch = Literal["start", "reconstruction", "contrastive", "two_stage"]
Registers = Annotated[int, Field(ge=0)]


class ReconstructionGrid(Block):
    """Reconstruction-only runs."""

    starts: tuple[str, ...] = ()
    losses: tuple[ReconstructionLoss, ...] = ()
    registers: tuple[Registers, ...] = (0,)


class ContrastiveGrid(Block):
    """Contrastive-only runs; a DINOv2 start here makes Table 12."""

    starts: tuple[str, ...] = ()
    losses: tuple[ContrastiveLoss, ...] = ()
    registers: tuple[Registers, ...] = (0,)


class TwoStageGrid(Block):
    """Two-stage runs; the first phase of each is the reconstruction-only run of the same name."""

    starts: tuple[str, ...] = ()
    reconstruction_losses: tuple[ReconstructionLoss, ...] = ()
    contrastive_losses: tuple[ContrastiveLoss, ...] = ()
    registers: tuple[Registers, ...] = (0,)


class ChipGrid(ReconstructionGrid):
    """Masked autoencoders of chips, trained as in the SAR paper."""

    losses: tuple[ReconstructionLoss, ...] = ("l2",)
    corpora: tuple[str, ...] = Field((), description="Corpora of chips; a run on each.")


class DetectionGrid(Block):
    """Encoders that a detection set compares, each a row of its table."""

    baselines: tuple[str, ...] = Field((), description="Encoders as they are; scratch ones first.")
    chips: bool = Field(False, description="Also all runs of matrix.chips.")
    selected: bool = Field(False, description="Also the selected model.")


class SelectedModel(Block):
    """The configuration that Table 15 and the confusion matrices are about."""

    branch: Literal["reconstruction", "contrastive", "two_stage"] = "two_stage"
    reconstruction_loss: ReconstructionLoss | None = "l2_l1"
    contrastive_loss: ContrastiveLoss | None = "soft_hcl"
    registers: Registers = 4


class CorpusSettings(Block):
    """The cutouts a run is pretrained on, and the sky it must not see."""

    title: str | None = Field(None, description="Name in the tables; the key if absent.")
    surveys: tuple[str, ...] = Field(min_length=1)
    guards: tuple[str, ...] | None = Field(
        None,
        description="Benchmarks whose sky is dropped; all of them if absent. A run is scored only "
        "on benchmarks its corpus guards, or names as transductive.",
    )
    transductive: tuple[str, ...] = Field(
        (), description="Benchmarks scored although their unlabelled images were seen; own rows."
    )


class MatrixSettings(Block):
    """Which encoders are compared."""

    baselines: tuple[str, ...] = Field((), description="Encoders evaluated as they are.")
    reference: str | None = Field(None, description="The ViT-MAE start Table 15 compares with.")
    dinov2_references: tuple[str, ...] = Field((), description="Table 15 takes the best of these.")
    corpora: tuple[str, ...] = Field(
        ("all",),
        description="Runs are trained on each; the first that guards a benchmark fills it.",
    )
    reconstruction: ReconstructionGrid = ReconstructionGrid()
    contrastive: ContrastiveGrid = ContrastiveGrid()
    dinov2: ContrastiveGrid = Field(
        ContrastiveGrid(), description="Contrastive from DINOv2 starts."
    )
    two_stage: TwoStageGrid = TwoStageGrid()
    chips: ChipGrid = Field(
        ChipGrid(), description="Masked autoencoders of chips, for detection only."
    )
    detection: dict[str, DetectionGrid] = Field(
        {}, description="For each detection set the encoders it compares."
    )
    selected: SelectedModel | None = None
    leave_out: tuple[str, ...] = Field(
        (),
        description="Surveys left out of the first corpus one at a time: the selected model is "
        "trained again without each.",
    )

    @field_validator("detection", mode="before")
    @classmethod
    def _null_removes(cls, grids: Any) -> Any:
        if not isinstance(grids, dict):
            return grids
        return {name: grid for name, grid in grids.items() if grid is not None}

    @property
    def sky_starts(self) -> set[str]:
        """Starts that benchmarks score: those of chips and detection alone are left out."""
        grids = (self.reconstruction, self.contrastive, self.dinov2, self.two_stage)
        return {*self.baselines, *(start for grid in grids for start in grid.starts)}

    @property
    def selected_start(self) -> str | None:
        """What the selected model starts from: the reference, else its branch's first start."""
        if self.selected is None:
            return None
        starts: tuple[str, ...] = getattr(self, self.selected.branch).starts
        if self.reference in starts:
            return self.reference
        return starts[0] if starts else None

    @property
    def reduced_corpora(self) -> dict[str, str]:
        """Name of the first corpus without a survey, and the survey, for each in `leave_out`."""
        if not self.corpora:
            return {}
        return {f"{self.corpora[0]}-without-{survey}": survey for survey in self.leave_out}

    def selected_node(self, corpus: str, seed: int) -> "EncoderNode | None":
        """The selected model trained on a corpus; None if nothing is selected."""
        chosen, start = self.selected, self.selected_start
        if chosen is None or start is None:
            return None
        # A branch with one phase has one loss, whatever else the block says.
        first = None if chosen.branch == "contrastive" else chosen.reconstruction_loss
        then = None if chosen.branch == "reconstruction" else chosen.contrastive_loss
        return EncoderNode(chosen.branch, start, chosen.registers, corpus, seed, first, then)


@dataclass(frozen=True)
class EncoderNode:
    """One encoder of the matrix and where it stands in it.

    `corpus` is None and `seed` may be None for a baseline: published weights have neither.
    `parent_of` gives the encoder whose weights it starts from.
    """

    branch: Branch
    start: str
    registers: int
    corpus: str | None
    seed: int | None
    reconstruction_loss: ReconstructionLoss | None = None
    contrastive_loss: ContrastiveLoss | None = None

    @property
    def name(self) -> str:
        """Unique file name; spells the coordinates."""
        if self.branch == "start":
            return "_".join(["start", self.start, *self._seed_words()])
        losses = [loss for loss in (self.reconstruction_loss, self.contrastive_loss) if loss]
        words = [self.branch, self.start, *losses, f"r{self.registers}", str(self.corpus)]
        return "_".join([*words, *self._seed_words()])

    def _seed_words(self) -> list[str]:
        return [] if self.seed is None else [f"s{self.seed}"]


def expand_matrix(
    matrix: MatrixSettings, seeds: tuple[int, ...], scratch: dict[str, int | None]
) -> list[EncoderNode]:
    """All encoders of the matrix, parents before children, without repeats.

    Parameters
    ----------
    matrix : the lists of the config
    seeds : one run of every cell per seed
    scratch : for each encoder of the config the registers of a scratch start, None for published
        weights (which are the same for every seed)

    Raises
    ------
    SettingsError
        If two encoders would have one name.
    """
    nodes: dict[str, EncoderNode] = {}
    for node in _walk(matrix, seeds, scratch):
        if nodes.setdefault(node.name, node) != node:
            raise SettingsError(
                f"matrix: two different encoders would be called {node.name}, since a start or a "
                "corpus has the name of a loss in its own. Rename it."
            )
    return list(nodes.values())


def _walk(
    matrix: MatrixSettings, seeds: tuple[int, ...], scratch: dict[str, int | None]
) -> Iterator[EncoderNode]:
    for seed in seeds:
        for start in matrix.baselines:
            yield start_node(start, seed, scratch)
        for corpus in matrix.corpora:
            recon = matrix.reconstruction
            for start in recon.starts:
                yield start_node(start, seed, scratch)
                for registers in recon.registers:
                    for loss in recon.losses:
                        yield EncoderNode("reconstruction", start, registers, corpus, seed, loss)
            for grid in (matrix.contrastive, matrix.dinov2):
                for start in grid.starts:
                    yield start_node(start, seed, scratch)
                    for registers in grid.registers:
                        for c_loss in grid.losses:
                            yield EncoderNode(
                                "contrastive", start, registers, corpus, seed, None, c_loss
                            )
            two = matrix.two_stage
            for start in two.starts:
                yield start_node(start, seed, scratch)
                for registers in two.registers:
                    for loss in two.reconstruction_losses:
                        yield EncoderNode("reconstruction", start, registers, corpus, seed, loss)
                        for c_loss in two.contrastive_losses:
                            yield EncoderNode(
                                "two_stage", start, registers, corpus, seed, loss, c_loss
                            )
        chips = matrix.chips
        for corpus in chips.corpora:
            for start in chips.starts:
                yield start_node(start, seed, scratch)
                for registers in chips.registers:
                    for loss in chips.losses:
                        yield EncoderNode("reconstruction", start, registers, corpus, seed, loss)
        for detection in matrix.detection.values():
            for start in detection.baselines:
                yield start_node(start, seed, scratch)
        for corpus in matrix.reduced_corpora:
            chosen = matrix.selected_node(corpus, seed)
            assert chosen is not None, "the settings check this"
            yield start_node(chosen.start, seed, scratch)
            parent = parent_of(chosen, scratch)
            if parent is not None:
                yield parent
            yield chosen


def start_node(start: str, seed: int, scratch: dict[str, int | None]) -> EncoderNode:
    """The starting point called `start`; a scratch start is drawn anew for every seed."""
    registers = scratch[start]
    if registers is None:
        return EncoderNode("start", start, 0, None, None)
    return EncoderNode("start", start, registers, None, seed)


def parent_of(node: EncoderNode, scratch: dict[str, int | None]) -> EncoderNode | None:
    """The encoder whose weights `node` starts from; None for a starting point."""
    if node.branch == "start":
        return None
    assert node.seed is not None
    if node.branch == "two_stage":
        return EncoderNode(
            "reconstruction",
            node.start,
            node.registers,
            node.corpus,
            node.seed,
            node.reconstruction_loss,
        )
    return start_node(node.start, node.seed, scratch)
