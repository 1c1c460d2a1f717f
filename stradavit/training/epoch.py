"""How many micro-batches and updates make an epoch: arithmetic alone, without torch."""

from dataclasses import KW_ONLY, dataclass

from stradavit.errors import TrainingError


@dataclass(frozen=True)
class Epoch:
    """The sizes of an epoch; which cutouts it shows in which order is `stradavit.training.sampler`.

    Parameters
    ----------
    n_cutouts : cutouts of the corpus
    batch_size : cutouts per device and micro-batch
    effective_batch : cutouts wanted per update. It is reached by whole micro-batches, rounded up:
        an update has ``ceil(effective_batch / (batch_size × world)) × batch_size × world``
        cutouts, fewer only at the end of an epoch.
    drop_last : leave out the last, incomplete micro-batch of an epoch
    equal_shares : leave out what is left when the last micro-batch is shared equally, fewer than
        one cutout per device; the contrastive loss gathers equally many keys from all
    world : devices

    Raises
    ------
    TrainingError
        If an epoch would be empty.
    """

    n_cutouts: int
    batch_size: int
    effective_batch: int
    drop_last: bool
    _: KW_ONLY
    equal_shares: bool = False
    world: int = 1

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"the corpus has {self.n_cutouts} cutouts, not enough for one micro-batch of "
                f"{self.batch_size} on {self.world} device(s). Lower batch_size of this phase, add "
                "cutouts to the corpus, or set drop_last to false."
            )

    @property
    def micro_batch(self) -> int:
        """Cutouts of a whole micro-batch over all devices."""
        return self.batch_size * self.world

    @property
    def accumulation(self) -> int:
        """Micro-batches per update."""
        return -(-self.effective_batch // self.micro_batch)

    @property
    def cutouts_per_epoch(self) -> int:
        """Cutouts shown in an epoch; all of them unless `drop_last` or `equal_shares`."""
        multiple = self.world if self.equal_shares else 1
        if self.drop_last:
            multiple = self.micro_batch
        return self.n_cutouts - self.n_cutouts % multiple

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches per epoch, the same on every device."""
        return -(-self.cutouts_per_epoch // self.micro_batch)

    @property
    def updates_per_epoch(self) -> int:
        """Optimiser updates per epoch."""
        return -(-self.steps_per_epoch // self.accumulation)

    def cutouts_before(self, updates: int) -> int:
        """Cutouts shown, over all devices, in the first so many updates of the run."""
        epochs, within = divmod(updates, self.updates_per_epoch)
        per_update = self.accumulation * self.micro_batch
        return epochs * self.cutouts_per_epoch + within * per_update
