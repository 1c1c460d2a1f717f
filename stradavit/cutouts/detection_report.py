"""What the validator says of a detection set: counts, repeats, and what was left out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from stradavit.cutouts.detection_images import Scene
from stradavit.cutouts.quantise import checksum
from stradavit.settings.detection import SPLITS

# Names and groups that are told of each kind; all are counted.
TOLD = 50


class LeftOut:
    """Boxes that a split loses or gets clipped before they are written, with some names."""

    def __init__(self) -> None:
        self.no_area: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()
        self.clipped: Counter[str] = Counter()
        self.other_class: dict[str, Counter[str]] = defaultdict(Counter)
        self._names: dict[str, list[str]] = defaultdict(list)

    def note(self, what: str, split: str, name: str) -> None:
        """Count a box `name` of a split as `no_area`, `outside` or `clipped`."""
        counter: Counter[str] = getattr(self, what)
        counter[split] += 1
        if what != "clipped" and len(self._names[what]) < TOLD:
            self._names[what].append(name)

    def of_split(self, split: str) -> dict[str, Any]:
        """What of a split was left out, and what was clipped."""
        return {
            "no_area": self.no_area[split],
            "outside": self.outside[split],
            "clipped": self.clipped[split],
            "other_class": dict(sorted(self.other_class[split].items())),
        }

    def names(self) -> dict[str, list[str]]:
        """Some of the boxes without area and outside, by what is wrong with them."""
        return {what: list(self._names[what]) for what in ("no_area", "outside")}


class Tally:
    """Counts scenes as they pass."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = list(classes)
        self._splits: dict[str, dict[str, Any]] = {}
        self._same: dict[tuple[int, tuple[int, ...]], list[tuple[str, str]]] = defaultdict(list)
        self._split_of_source: dict[str, set[str]] = defaultdict(set)

    def see(self, scene: Scene) -> Scene:
        """Count a scene and hand it on."""
        counts = self._splits.setdefault(
            scene.split,
            {"images": 0, "empty": 0, "boxes": 0, "crowd": 0}
            | {"per_class": dict.fromkeys(self._classes, 0)},
        )
        counts["images"] += 1
        counts["empty"] += not len(scene.boxes)
        counts["boxes"] += len(scene.boxes)
        counts["crowd"] += int(scene.is_crowd.sum())
        for label in scene.labels:
            counts["per_class"][self._classes[label]] += 1
        same = checksum(scene.levels), scene.levels.shape
        self._same[same].append((scene.split, scene.name))
        # A region to ignore is neither learned nor scored, so it may well lie in two splits.
        for source, is_crowd in zip(scene.sources, scene.is_crowd, strict=True):
            if not is_crowd:
                self._split_of_source[source].add(scene.split)
        return scene

    def report(self, left_out: LeftOut | None, more: dict[str, Any]) -> dict[str, Any]:
        """All of it as JSON; `more` is added as it is."""
        repeats = [group for group in self._same.values() if len(group) > 1]
        across = [group for group in repeats if len({split for split, _ in group}) > 1]
        within = [group for group in repeats if len({split for split, _ in group}) == 1]
        shared = sorted(s for s, splits in self._split_of_source.items() if len(splits) > 1)
        splits = {split: self._splits[split] for split in SPLITS if split in self._splits}
        if left_out is not None:
            splits = {split: counts | left_out.of_split(split) for split, counts in splits.items()}
            more = {"left_out": left_out.names(), **more}
        return {
            "classes": self._classes,
            "splits": splits,
            "unseen_classes": [
                name
                for name in self._classes
                if not any(counts["per_class"][name] for counts in splits.values())
            ],
            "duplicates_within": _groups(within),
            "duplicates_across": _groups(across),
            "sources_in_two_splits": {"number": len(shared), "names": shared[:TOLD]},
            **more,
        }


def _groups(groups: list[list[tuple[str, str]]]) -> dict[str, Any]:
    named = [[name for _, name in group] for group in groups]
    return {"groups": len(groups), "images": sum(map(len, groups)), "names": named[:TOLD]}


def describe(report: dict[str, Any]) -> str:
    """A report as people read it."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for split, counts in report["splits"].items():
        empty = f"{counts['empty']:,} without boxes"
        crowd = f", {counts['crowd']:,} of them regions to ignore" if counts["crowd"] else ""
        yield f"{split}: {counts['images']:,} images ({empty}), {counts['boxes']:,} boxes{crowd}"
        some = [f"{number:,} {name}" for name, number in counts["per_class"].items() if number]
        yield f"  by class: {', '.join(some) or 'none'}"
        told = [
            f"{counts[key]:,} {words}"
            for key, words in (
                ("no_area", "without area, left out"),
                ("outside", "outside the image, left out"),
                ("clipped", "clipped to the image"),
            )
            if counts.get(key)
        ]
        told += [f"{n:,} of {name}, left out" for name, n in counts.get("other_class", {}).items()]
        if told:
            yield f"  boxes: {'; '.join(told)}"
    if report["unseen_classes"]:
        yield f"classes without any box: {', '.join(report['unseen_classes'])}"
    for what, words in (("no_area", "boxes without area"), ("outside", "boxes outside")):
        if names := report.get("left_out", {}).get(what):
            yield f"{words}: {', '.join(names)}"
    for key, where in (("within", "within a split"), ("across", "ACROSS SPLITS")):
        found = report[f"duplicates_{key}"]
        if found["groups"]:
            yield (
                f"equal images {where}: {found['images']:,} in {found['groups']:,} groups, such as"
            )
            yield from (f"  {' = '.join(names)}" for names in found["names"])
    if (shared := report["sources_in_two_splits"])["number"]:
        yield f"sources in two splits: {shared['number']:,}, such as {', '.join(shared['names'])}"
    if "counts" in report:
        yield f"counts: {report['counts']}"
    yield from (f"warning: {warning}" for warning in report.get("warnings", []))
