"""Table 19 (ours): the planned questions, each comparison tested, in numbers and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stradavit.paper.captions import result_caption
from stradavit.paper.cells import Results, Role
from stradavit.paper.comparisons import TEST, corrected, difference
from stradavit.paper.digits import decimal, interval_text, p_equation, p_text
from stradavit.paper.encoder_rows import full_label
from stradavit.paper.layout import (
    BETTER,
    WORSE,
    Column,
    Head,
    PValue,
    Row,
    RowGroup,
    Section,
    Spread,
    Table,
)
from stradavit.paper.names import PROTOCOL_TITLES, benchmark_title
from stradavit.paper.questions import QUESTIONS, Pair, Question
from stradavit.paper.scores import Score
from stradavit.settings.evaluation import PAPER_PROTOCOLS, Protocol

VERDICTS = {BETTER: "better", WORSE: "worse", "": "no difference shown"}
SIGNS = {BETTER: ">", WORSE: "<"}
TRANSDUCTIVE = " (transductive)"


@dataclass(frozen=True)
class Claim:
    """One comparison of a family, after the correction over all of it.

    Parameters
    ----------
    pair : what is compared
    benchmark : name in the config
    role : whether the runs had seen the benchmark's images, without their labels
    ours, theirs : scores of both
    difference : of Macro-F1, with interval, p and corrected p; its mark is the verdict
    """

    pair: Pair
    benchmark: str
    role: Role
    ours: Score
    theirs: Score
    difference: Spread


def claim_table(results: Results) -> Table | None:
    """Table 19; None if the config leaves out everything it could compare."""
    settings = results.settings
    families = [
        (protocol, question, list(claims(results, protocol, question)))
        for protocol in PAPER_PROTOCOLS
        if protocol in settings.evaluation.protocols
        for question in QUESTIONS
    ]
    if not any(found for _, _, found in families):
        return None
    groups, sections = [], []
    for protocol, question, found in families:
        title = f"{PROTOCOL_TITLES[protocol]}, ({question.letter}) {question.title}"
        rows = [_row(results, claim) for claim in found] or [_missing_row(question)]
        groups.append(RowGroup(tuple(rows), title))
        sections.append(Section(title, _sentences(results, protocol, question, found)))
    lead = (
        "Macro-F1 of the first encoder minus that of the second, paired over folds and seeds: "
        f"mean ± population standard deviation [95 % interval], p of the {TEST}, p after Holm's "
        "correction over all comparisons of the question under this protocol. A difference is "
        "shown where the corrected p is below 0.05; an interval is that of one comparison by "
        "itself. The questions were fixed before the results. A mark in Tables 8 to 15 is "
        "corrected over its table alone and can stand where the larger family here shows no "
        "difference."
    )
    return Table(
        number=19,
        slug="claims",
        title="What the comparisons show",
        caption=result_caption(results, *PAPER_PROTOCOLS, lead=lead),
        heads=(
            Head("encoder", "Encoder"),
            Head("compared_with", "Compared with"),
            Head("benchmark", "Benchmark"),
        ),
        columns=(
            Column("difference", "Difference", has_spread=True),
            Column("p", "p"),
            Column("p_holm", "p (Holm)"),
            Column("seeds", "Seeds"),
            Column("verdict", "Verdict"),
        ),
        groups=tuple(groups),
        group_key="question",
        sections=tuple(sections),
    )


def claims(results: Results, protocol: Protocol, question: Question) -> Iterator[Claim]:
    """The comparisons of a family that the config's results allow, corrected together."""
    found: list[Claim] = []
    roles: tuple[Role, ...] = ("inductive", "transductive")
    for benchmark in results.settings.benchmarks:
        for pair in question.pairs(results, protocol, benchmark):
            for role in roles:
                # A start has seen no benchmark.
                their_role = "inductive" if pair.theirs.branch == "start" else role
                ours = results.score(protocol, pair.ours, benchmark, role)
                theirs = results.score(protocol, pair.theirs, benchmark, their_role)
                if ours and theirs:
                    tested = difference(ours, theirs)
                    found.append(Claim(pair, benchmark, role, ours, theirs, tested))
    (family,) = corrected([RowGroup(tuple(Row((), (claim.difference,)) for claim in found))])
    for claim, row in zip(found, family.rows, strict=True):
        (cell,) = row.cells
        assert isinstance(cell, Spread)
        yield replace(claim, difference=cell)


def sentence(results: Results, protocol: Protocol, claim: Claim) -> str:
    """A comparison in words: what it shows, by how much, how surely, and what it is about."""
    cell = claim.difference
    assert cell.interval is not None and cell.p_value is not None and cell.p_holm is not None
    ours = _name(results, claim)
    where = f"on {benchmark_title(results.settings, claim.benchmark)} ({_in_sentence(protocol)})"
    numbers = (
        f"{decimal(cell.mean, is_signed=True)} {interval_text(cell.interval, is_signed=True)}, "
        f"{p_equation(cell.p_value)} (Holm {p_text(cell.p_holm)})"
    )
    if cell.mark:
        said = f"{ours} {SIGNS[cell.mark]} {claim.pair.theirs_title} {where}"
    else:
        said = f"no difference shown: {ours} and {claim.pair.theirs_title} {where}"
    return f"{said}: {numbers}; {_scope(claim)}."


def _name(results: Results, claim: Claim) -> str:
    suffix = TRANSDUCTIVE if claim.role == "transductive" else ""
    return full_label(results, claim.pair.ours) + suffix


def _in_sentence(protocol: Protocol) -> str:
    title = PROTOCOL_TITLES[protocol]
    return title[0].lower() + title[1:]


def _scope(claim: Claim) -> str:
    """One training says nothing of how others of the same recipe would have come out."""
    n = len(claim.ours.encoders)
    return "one seed: these weights, not the recipe" if n == 1 else f"the recipe, over {n} seeds"


def _sentences(
    results: Results, protocol: Protocol, question: Question, found: Sequence[Claim]
) -> tuple[str, ...]:
    if not found:
        return (f"Nothing to compare: the matrix lacks {question.missing}.",)
    shown = sum(claim.difference.mark != "" for claim in found)
    plural = "s" if len(found) > 1 else ""
    first = f"A difference is shown by {shown} of {len(found)} comparison{plural}."
    told = [sentence(results, protocol, claim) for claim in found]
    return (" ".join([first, question.caveat]).strip(), *told)


def _row(results: Results, claim: Claim) -> Row:
    cell = claim.difference
    assert cell.p_value is not None and cell.p_holm is not None
    return Row(
        labels=(
            _name(results, claim),
            claim.pair.theirs_title,
            benchmark_title(results.settings, claim.benchmark),
        ),
        cells=(
            # Test and verdict have columns of their own.
            replace(cell, p_value=None, p_holm=None, mark=""),
            PValue(cell.p_value),
            PValue(cell.p_holm),
            len(claim.ours.encoders),
            VERDICTS[cell.mark],
        ),
        notes=tuple(dict.fromkeys([*claim.ours.remarks, *claim.theirs.remarks])),
        files=claim.ours.files,
        minus=claim.theirs.files,
    )


def _missing_row(question: Question) -> Row:
    note = f"Nothing to compare for question ({question.letter}): the matrix lacks "
    return Row(("none", "none", "none"), (None,) * 5, (f"{note}{question.missing}.",))
