"""Tables 16 and 17: what detectors find that differ only in the encoder they start from."""

from typing import Literal

from stradavit.paper.cells import Results
from stradavit.paper.detection_files import SIZES, DetectionMetrics
from stradavit.paper.detection_scores import Compared, compared, summary
from stradavit.paper.layout import Cell, Column, Head, Row, RowGroup, Table
from stradavit.paper.names import detection_title
from stradavit.settings import Settings

MOST_CLASSES = 8
KINDS: dict[Literal["sar", "radio"], tuple[int, str, str]] = {
    "sar": (16, "sar_detection", "Detection in SAR images"),
    "radio": (17, "radio_detection", "Detection in radio images"),
}
SCORES = {
    "map": "mAP",
    "ap50": "AP50",
    "ap75": "AP75",
    **{f"map_{size}": f"mAP {size}" for size in SIZES},
}


def detection_tables(results: Results) -> list[Table]:
    """Tables 16 and 17, each if the matrix compares encoders on a set of its kind."""
    tables = [_table(results, kind) for kind in KINDS]
    return [table for table in tables if table is not None]


def _table(results: Results, kind: Literal["sar", "radio"]) -> Table | None:
    """A row group per set; sets of one table share the columns of classes of one name."""
    settings = results.settings
    found = {
        name: rows
        for name in settings.matrix.detection
        if settings.detection.sets[name].table == kind and (rows := compared(results, name))
    }
    if not found:
        return None
    number, slug, title = KINDS[kind]
    classes = _classes(found)
    with_sdc1 = any(row.trainings[0].sdc1 for rows in found.values() for row in rows)
    groups = [
        RowGroup(
            tuple(_row(row, classes, with_sdc1) for row in rows), detection_title(settings, name)
        )
        for name, rows in found.items()
    ]
    return Table(
        number=number,
        slug=slug,
        title=title,
        caption=_caption(settings, found),
        heads=(Head("encoder", "Encoder"),),
        columns=_columns(classes, with_sdc1),
        groups=tuple(groups),
        group_key="set",
    )


def _classes(found: dict[str, list[Compared]]) -> tuple[str, ...]:
    """Classes with columns: none where one class is all there is, or where they are too many."""
    names = dict.fromkeys(name for rows in found.values() for name in rows[0].trainings[0].classes)
    return tuple(names) if 1 < len(names) <= MOST_CLASSES else ()


def _columns(classes: tuple[str, ...], with_sdc1: bool) -> tuple[Column, ...]:
    def percent(key: str, title: str, group: str = "") -> Column:
        return Column(key, title, group, has_spread=True, has_interval=False, digits=1)

    columns = [Column("split", "Split"), Column("trainings", "Trainings")]
    columns += [percent(f"{key} percent", title) for key, title in SCORES.items()]
    columns += [percent(f"map {name} percent", name, "mAP of class") for name in classes]
    if with_sdc1:
        columns += [
            percent("sdc1_score", "score", "SDC1"),
            percent("sdc1_percent", "% of boxes", "SDC1"),
        ]
    return tuple(columns)


def _row(row: Compared, classes: tuple[str, ...], with_sdc1: bool) -> Row:
    cells: list[Cell] = [row.trainings[0].split, len(row.trainings)]
    cells += [row.score(key) for key in SCORES]
    cells += [row.of_class(name) for name in classes]
    if with_sdc1:
        blocks = [metrics.sdc1 for metrics in row.trainings]
        cells += [
            summary([None if block is None else block.score for block in blocks], factor=1.0),
            summary([None if block is None else block.percent for block in blocks], factor=1.0),
        ]
    return Row((row.title,), tuple(cells), row.notes, row.files)


def _caption(settings: Settings, found: dict[str, list[Compared]]) -> str:
    first = {name: rows[0].trainings[0] for name, rows in found.items()}
    sentences = [
        "Average precision of boxes in percent: mAP is the mean over IoU 0.5 to 0.95, AP50 and "
        "AP75 are those at one IoU. A dash: no box has that size or class.",
        protocol_sentence(settings),
        *(scored_sentence(settings, name, metrics) for name, metrics in first.items()),
        *dict.fromkeys(_sizes_sentence(metrics) for metrics in first.values()),
        _sdc1_sentence(first),
        spread_sentence(settings, found),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def protocol_sentence(settings: Settings) -> str:
    """Which detector was trained, on images of which size, and how."""
    detector, training = settings.detection.detector, settings.detection.training
    small = ""
    if training.min_side_px:
        small = f"; no training boxes with a side below {training.min_side_px:g} px"
    return (
        "Detector: ViTDet with Faster R-CNN heads; rows differ in nothing but the encoder it "
        f"starts from. Images resized to {detector.image_px} × {detector.image_px} px, all weights "
        f"trained for {training.epochs} epochs, AdamW at {training.optimiser.learning_rate:g}, "
        f"batch {training.batch_size}, last-epoch model{small}."
    )


def scored_sentence(settings: Settings, name: str, metrics: DetectionMetrics) -> str:
    """How much of a set was scored."""
    boxes = metrics.n_boxes
    sizes = ", ".join(f"{boxes[size]:,} {size}" for size in SIZES)
    return (
        f"{detection_title(settings, name)}: scored on the {metrics.n_images:,} images of the "
        f"{metrics.split} split with {boxes['all']:,} boxes ({sizes})."
    )


def _sizes_sentence(metrics: DetectionMetrics) -> str:
    medium, large = metrics.size_limits_px
    return (
        f"Small boxes cover less than {medium:g} × {medium:g} px of the stored image, large ones "
        f"{large:g} × {large:g} px or more."
    )


def _sdc1_sentence(first: dict[str, DetectionMetrics]) -> str:
    scored = [metrics.sdc1 for metrics in first.values() if metrics.sdc1]
    if not scored:
        return ""
    bands = {str(block.band_mhz) for block in scored if block.band_mhz is not None}
    at = f" at {', '.join(sorted(bands))} MHz" if bands else ""
    return (
        "Columns of SDC1: score of the SKA Science Data Challenge 1 for a catalogue made of the "
        f"detections{at}, and the same in percent of the number of true boxes. What a box does not "
        "tell is made up, so it compares rows, not with the results of the challenge."
    )


def spread_sentence(settings: Settings, found: dict[str, list[Compared]]) -> str:
    """What ± is over, and that differences are not tested."""
    seeds = ", ".join(map(str, settings.detection.training.seeds))
    pretraining = ", ".join(map(str, settings.training.seeds))
    rows = [row for rows in found.values() for row in rows]
    if all(len(row.trainings) == 1 for row in rows):
        return (
            f"One training of each detector (seed {seeds}; pretraining seed {pretraining}): "
            "nothing is known of other seeds, so no difference is claimed."
        )
    sentence = (
        "Mean ± population standard deviation over trainings: every encoder of a row "
        f"(pretraining seeds {pretraining}; published weights have one) with every seed of the "
        f"detector ({seeds}). Differences between rows are not tested."
    )
    if any(len(row.trainings) == 1 for row in rows):
        sentence += " A number without ± is of a single training."
    return sentence
