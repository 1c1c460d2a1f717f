"""What became of the files of a run, as a table for `docs/reliability.md`."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.cases import WEIGHTS, Case
from tests.fuzz.originals import real_data
from tests.fuzz.outcome import Outcome

BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"


@dataclass
class Summary:
    """Counts of a run, by kind of damage."""

    seed: int
    n_files: int
    wall_s: float = 0.0
    n_failed: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)

    def add(self, case: Case, outcome: Outcome) -> None:
        """Count one file."""
        self.counts.setdefault(case.kind, Counter())[outcome.name] += 1
        self.cpu_s[case.kind] = max(self.cpu_s.get(case.kind, 0.0), outcome.cpu_s)
        self.peak_mb[case.kind] = max(self.peak_mb.get(case.kind, 0.0), outcome.peak_mb)
        self.n_failed += bool(outcome.faults)

    def table(self) -> str:
        """The command, the totals, and a row for each kind."""
        total = sum(self.counts.values(), Counter())
        real = "with" if real_data() else "without"
        lines = [
            f"`python -m tests.fuzz --seed {self.seed} --files {self.n_files}`, {real} real files: "
            f"{total['cut']} files were cut, {total['dropped']} had no cutout worth keeping, "
            f"{self.n_files - total['cut'] - total['dropped'] - self.n_failed - total['refused']} "
            f"were skipped by reason, {total['refused']} refused, {self.n_failed} failed. It took "
            f"{self.wall_s:.0f} s. Of processor time and of memory the table has the most that one "
            "reader took for one file.",
            "",
            "| Damage | Files | Cut | Dropped | Skipped, by reason | CPU, s | Memory, MB |",
            "| :-- | --: | --: | --: | :-- | --: | --: |",
        ]
        for kind in WEIGHTS:
            count = self.counts.get(kind)
            if count is None:
                continue
            others = [
                f"{n} {name}" for name, n in count.most_common() if name not in ("cut", "dropped")
            ]
            lines.append(
                f"| {kind} | {count.total()} | {count['cut']} | {count['dropped']} | "
                f"{', '.join(others) or '–'} | {self.cpu_s[kind]:.2f} | {self.peak_mb[kind]:.0f} |"
            )
        return "\n".join(lines)


def write_page(path: Path, summary: Summary) -> None:
    """Put the table between its two marks; a page without them gets them at its end."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Reliability\n"
    if BEGIN not in text:
        text += f"\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{summary.table()}\n{END}{after}", encoding="utf-8")
