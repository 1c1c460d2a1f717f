"""The sentences every caption of results repeats: protocol, folds, seeds, spread, corpus."""

from stradavit.paper.cells import Results
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol


def protocol_sentence(settings: Settings, protocol: Protocol) -> str:
    """What was trained on the benchmarks, how long, at which rate, on which readout."""
    evaluation = settings.evaluation
    readout = "mean of the patch tokens (the pooled CLS token for DINOv2)"
    counted = {
        "whole_benchmark": "balanced over the whole benchmark",
        "training_fold": "balanced over the training folds",
    }[evaluation.class_weights]
    if protocol == "linear_probe":
        probe = evaluation.probe
        return (
            f"Linear probe: frozen encoder, one linear layer on the {readout}, {probe.epochs} "
            f"epochs, AdamW at {probe.learning_rate:g}, batch {probe.batch_size}, class weights "
            f"{counted}, last-epoch model."
        )
    tune = evaluation.finetune
    return (
        f"Fine-tuning: all weights, {readout}, {tune.epochs} epochs, AdamW at "
        f"{tune.learning_rate:g} for the last block, times {tune.layer_decay:g} per block below "
        f"and {tune.head_multiplier:g} for the head, batch {tune.batch_size}, class weights "
        f"{counted}, last-epoch model."
    )


def spread_sentence(settings: Settings) -> str:
    """Over what mean and spread are taken."""
    folds = settings.evaluation.folds
    seeds = settings.training.seeds
    over = f"{folds.count} folds (images of a source share a fold, fold seed {folds.seed})"
    if len(seeds) == 1:
        return f"Mean ± population standard deviation over {over}; pretraining seed {seeds[0]}."
    listed = ", ".join(map(str, seeds))
    return (
        f"Mean over {len(seeds)} pretraining seeds ({listed}) of the means over {over} ± "
        "population standard deviation over all folds and seeds; published weights have one seed."
    )


def corpus_sentence(results: Results) -> str:
    """Which corpus fills which benchmark's column, if there is more than one."""
    settings = results.settings
    if len(settings.matrix.corpora) < 2:
        return ""
    parts = []
    for benchmark in settings.benchmarks:
        guarding = [c for c in settings.matrix.corpora if benchmark in settings.guards(c)]
        corpus = guarding[0] if guarding else "none"
        parts.append(f"{benchmark_title(settings, benchmark)}: {corpus}")
    return f"Pretraining corpus by column: {'; '.join(parts)}."


def result_caption(results: Results, *protocols: Protocol, lead: str = "") -> str:
    """Caption of a table or figure of scores."""
    settings = results.settings
    sentences = [lead]
    for protocol in protocols:
        if protocol in settings.evaluation.protocols:
            sentences.append(protocol_sentence(settings, protocol))
        else:
            sentences.append(f"{PROTOCOL_TITLES[protocol]} is not among evaluation.protocols.")
    sentences += [spread_sentence(settings), corpus_sentence(results)]
    return " ".join(sentence for sentence in sentences if sentence)
