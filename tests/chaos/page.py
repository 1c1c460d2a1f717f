"""The outcomes as Markdown: a row for each kind of fault, where it struck, and what was seen."""

from pathlib import Path

from tests.chaos.runner import Outcome, Result

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


def summary(result: Result, seed: int) -> str:
    """One line: `50 faults, seed 1: tables identical (54 files); 43 runs; 12 min`."""
    minutes = result.wall_s / 60
    return (
        f"{len(result.outcomes)} faults, seed {seed}: tables identical ({result.n_files} files); "
        f"{result.n_runs} runs; {minutes:.0f} min"
    )


def table(outcomes: list[Outcome]) -> str:
    """Faults of one kind and outcome share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.fault.kind, outcome.told), []).append(outcome.fault.where)
    lines = ["| Fault | Struck | Times | What was seen |", "| :-- | :-- | --: | :-- |"]
    for (kind, told), places in rows.items():
        struck = ", ".join(dict.fromkeys(places))
        lines.append(f"| {kind} | {struck} | {len(places)} | {told} |")
    return "\n".join(lines)


def write(path: Path, result: Result, seed: int) -> None:
    """Put summary and table between the two marker lines of a page; add them if it has none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN not in text:
        text += f"\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    body = f"{summary(result, seed)}\n\n{table(result.outcomes)}"
    path.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")
