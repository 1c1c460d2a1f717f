"""The sentences every caption of results repeats: protocol, folds, seeds, spread, corpus."""

from stradavit.evaluation.statistics import ALPHA
from stradavit.paper.cells import Results
from stradavit.paper.comparisons import TEST
from stradavit.paper.layout import BETTER, WORSE
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title, guarded_title
from stradavit.settings import Settings
from stradavit.settings.evaluation import Protocol

READOUT = "mean of the patch tokens (the pooled CLS token for DINOv2)"
# Scored on folds; the others say themselves how often they were repeated.
FOLDED: tuple[Protocol, ...] = ("linear_probe", "finetune", "knn")


def protocol_sentence(settings: Settings, protocol: Protocol) -> str:
    """What was trained on the benchmarks, how long, at which rate, on which readout."""
    evaluation = settings.evaluation
    counted = {
        "whole_benchmark": "balanced over the whole benchmark",
        "training_fold": "balanced over the training images",
    }[evaluation.class_weights]
    probe, tune, knn = evaluation.probe, evaluation.finetune, evaluation.knn
    budget, split = evaluation.label_budget, evaluation.published_split
    recipe = (
        f"frozen encoder, one linear layer on the {READOUT}, {probe.epochs} epochs, AdamW at "
        f"{probe.learning_rate:g}, batch {probe.batch_size}, last-epoch model, class weights "
    )
    sentences: dict[Protocol, str] = {
        "linear_probe": f"Linear probe: {recipe}{counted}.",
        "finetune": f"Fine-tuning: all weights, {READOUT}, {tune.epochs} epochs, AdamW at "
        f"{tune.learning_rate:g} for the last block, times {tune.layer_decay:g} per block below "
        f"and {tune.head_multiplier:g} for the head, batch {tune.batch_size}, class weights "
        f"{counted}, last-epoch model.",
        "knn": f"k-NN: frozen encoder, {READOUT}; the {knn.neighbours} nearest training images by "
        f"cosine similarity vote with weight exp(similarity / {knn.temperature:g}).",
        "label_budget": f"Linear probe with few labels: {recipe}balanced over the drawn images; "
        "trained on n images of each class, or on all of a class that has fewer, drawn from the "
        f"training images of a fold {budget.draws} times, with as many updates as with all labels.",
        "published_split": f"Linear probe on the published division: {recipe}{counted}; trained "
        f"on the published training images {split.trainings} times with other draws, scored on "
        "the published test images.",
    }
    return sentences[protocol]


def spread_sentence(settings: Settings, *protocols: Protocol) -> str:
    """Over what mean, spread and interval are taken, for protocols that score folds."""
    folds = settings.evaluation.folds
    used = settings.evaluation.protocols
    repeats = {p: _repeats(settings, p) for p in protocols if p in used and p in FOLDED}
    times = first = ""
    if any(n > 1 for n in repeats.values()):
        first = "; the first repeat has the folds of the paper"
        if len(set(repeats.values())) == 1:
            times = f" × {next(iter(repeats.values()))} repeats"
        else:
            listed = ", ".join(f"{PROTOCOL_TITLES[p]} {n}" for p, n in repeats.items())
            times = f" × repeats ({listed})"
    over = (
        f"{folds.count} folds{times}, fold seed {folds.seed} (images of a source share a fold"
        f"{first})"
    )
    bracket = "In brackets the 95 % interval of the mean, corrected for folds that share images"
    seeds = settings.training.seeds
    if len(seeds) == 1:
        return (
            f"Mean ± population standard deviation over {over}; pretraining seed {seeds[0]}. "
            f"{bracket}; it is about these weights and knows nothing of other seeds."
        )
    listed = ", ".join(map(str, seeds))
    return (
        f"Mean over {len(seeds)} pretraining seeds ({listed}) of the means over {over} ± "
        "population standard deviation over all folds and seeds; published weights have one seed. "
        f"{bracket} and for the spread of the seeds."
    )


def mark_sentence(settings: Settings, against: str, n_tests: int, what: str = "Macro-F1") -> str:
    """What a mark means, by which test, corrected over what; nothing where nothing is tested."""
    if n_tests == 0:
        return ""
    plural = "s" if n_tests > 1 else ""
    return (
        f"{BETTER} better, {WORSE} worse in {what} than {against} on identical folds: {TEST}, "
        f"Holm's correction over the {n_tests} comparison{plural} of this table, p < {ALPHA:g}. "
        f"{scope_sentence(settings)}"
    )


def scope_sentence(settings: Settings) -> str:
    """What a significant difference is about."""
    n = len(settings.training.seeds)
    if n == 1:
        return "With one pretraining seed a mark is about these weights, not about the recipe."
    return f"With {n} pretraining seeds a mark is about the recipe."


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


def guard_sentence(results: Results) -> str:
    """How many pretraining cutouts were dropped because they show sky of a benchmark."""
    settings = results.settings
    sentences = []
    for name in settings.matrix.corpora:
        by_survey = results.corpus_counts[name].values()
        cut = sum(counts["cut"] for counts in by_survey)
        unknown = sum(counts["no_sky"] for counts in by_survey)
        guarded = (*settings.guards(name), *settings.detection_guards(name))
        hits = {b: sum(c["guard"].get(b, 0) for c in by_survey) for b in guarded}
        of_corpus = f" of corpus {name}" if len(settings.matrix.corpora) > 1 else ""
        if not hits:
            sentences.append(
                f"No pretraining cutout{of_corpus} was dropped for the sky it shows: the corpus "
                "guards no benchmark."
            )
            continue
        listed = ", ".join(f"{guarded_title(settings, b)} {n:,}" for b, n in hits.items())
        what = "benchmark positions"
        if settings.detection_guards(name):
            what += " or held-out images of detection sets"
        sentence = (
            f"{sum(hits.values()):,} of {cut:,} pretraining cutouts{of_corpus} were dropped "
            f"because they contain {what} ({listed})"
        )
        if unknown:
            sentence += f", {unknown:,} because their sky is not known"
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def result_caption(
    results: Results, *protocols: Protocol, lead: str = "", spread: str | None = None
) -> str:
    """Caption of a table or figure of scores.

    Parameters
    ----------
    lead : first sentences
    spread : over what mean and spread are taken, if not over folds and seeds
    """
    settings = results.settings
    sentences = [lead]
    for protocol in protocols:
        if protocol in settings.evaluation.protocols:
            sentences.append(protocol_sentence(settings, protocol))
        else:
            sentences.append(f"{PROTOCOL_TITLES[protocol]} is not among evaluation.protocols.")
    if spread is None:
        spread = spread_sentence(settings, *protocols)
    sentences += [spread, corpus_sentence(results), guard_sentence(results)]
    return " ".join(sentence for sentence in sentences if sentence)


def _repeats(settings: Settings, protocol: Protocol) -> int:
    evaluation = settings.evaluation
    repeats = {
        "linear_probe": evaluation.probe.repeats,
        "finetune": evaluation.finetune.repeats,
        "knn": evaluation.knn.repeats,
    }
    return repeats[protocol]
