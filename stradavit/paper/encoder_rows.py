"""The encoders of the matrix in the order our own tables list them, and their names there."""

from stradavit.paper.cells import Configuration, Results
from stradavit.paper.names import LOSS_TITLES, encoder_title
from stradavit.settings.matrix import Branch

HEADINGS: dict[Branch, str] = {
    "start": "Starting points",
    "reconstruction": "Reconstruction only",
    "contrastive": "Contrastive only",
    "two_stage": "Two-stage",
}


def configurations(results: Results, branch: Branch) -> list[Configuration]:
    """Configurations of a branch, without repeats for seeds and corpora."""
    nodes = (node for node in results.nodes.values() if node.branch == branch)
    return list(dict.fromkeys(Configuration.of(node) for node in nodes))


def row_label(results: Results, configuration: Configuration) -> str:
    """Name of an encoder below the heading of its branch."""
    start = encoder_title(results.settings, configuration.start)
    if configuration.branch == "start":
        return start
    label = losses_and_registers(configuration)
    return f"{start}: {label}" if _has_several_starts(results, configuration) else label


def full_label(results: Results, configuration: Configuration) -> str:
    """Name of an encoder in a sentence, with its start where its branch has several."""
    start = encoder_title(results.settings, configuration.start)
    if configuration.branch == "start":
        return start
    label = f"{branch_title(configuration)} {losses_and_registers(configuration)}"
    return f"{label}, from {start}" if _has_several_starts(results, configuration) else label


def branch_title(configuration: Configuration) -> str:
    """`two-stage`."""
    return configuration.branch.replace("_", "-")


def losses_and_registers(configuration: Configuration) -> str:
    """`L2+L1 → Soft-HCL, R = 4`."""
    losses = (configuration.reconstruction_loss, configuration.contrastive_loss)
    label = " → ".join(LOSS_TITLES[loss] for loss in losses if loss)
    return f"{label}, R = {configuration.registers}"


def _has_several_starts(results: Results, configuration: Configuration) -> bool:
    nodes = results.nodes.values()
    return len({node.start for node in nodes if node.branch == configuration.branch}) > 1
