"""Average precision as COCO defines it, one detection at a time; slow and plain.

Written from the definition of the detection challenge (cocodataset.org, "Detection Evaluation"):
thresholds 0.50 to 0.95 in steps of 0.05, precision interpolated at 101 recalls, the 100 best
detections of each class in an image, size classes by area, crowd regions that excuse detections.
"""

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(box, other, other_is_crowd):
    """Intersection over union; over the detection's own area where the other is a crowd."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(box) if other_is_crowd else area(box) + area(other) - shared)


def judge(detections, boxes, threshold, limits):
    """Whether each detection of one class in one image is right (1), wrong (0) or excused (None).

    Parameters
    ----------
    detections : boxes, best score first
    boxes : pairs of box and whether it is a crowd
    limits : least and largest area that counts
    """
    counts = [not crowd and limits[0] <= area(box) <= limits[1] for box, crowd in boxes]
    taken = [False] * len(boxes)
    verdicts = []
    for detection in detections:
        # A box that counts, however little it overlaps, goes before one that excuses.
        best = None
        for wanted in (True, False):
            free = [
                (overlap(detection, box, crowd), number)
                for number, (box, crowd) in enumerate(boxes)
                if counts[number] == wanted and (crowd or not taken[number])
            ]
            reaching = [pair for pair in free if pair[0] >= threshold]
            if reaching:
                best = max(reaching)[1]
                break
        if best is not None:
            taken[best] = True
            verdicts.append(1 if counts[best] else None)
        else:
            is_of_size = limits[0] <= area(detection) <= limits[1]
            verdicts.append(0 if is_of_size else None)
    return verdicts, sum(counts)


def average_precision(images, label, threshold, size, max_detections=100):
    """AP of one class; None without ground truth.

    Parameters
    ----------
    images : list of pairs: ground truth (box, label, crowd) and detections (box, label, score)
    """
    scored, n_truth = [], 0
    for truth, found in images:
        boxes = [(box, crowd) for box, its_label, crowd in truth if its_label == label]
        best = sorted((one for one in found if one[1] == label), key=lambda one: -one[2])
        best = best[:max_detections]
        verdicts, n_counting = judge([one[0] for one in best], boxes, threshold, AREAS[size])
        n_truth += n_counting
        scored += [
            (one[2], verdict)
            for one, verdict in zip(best, verdicts, strict=True)
            if verdict is not None
        ]
    if n_truth == 0:
        return None
    scored.sort(key=lambda pair: -pair[0])
    points = []
    n_right = 0
    for n_seen, (_, verdict) in enumerate(scored, start=1):
        n_right += verdict
        points.append((n_right / n_truth, n_right / n_seen))
    heights = [
        max((precision for recall, precision in points if recall >= wanted), default=0.0)
        for wanted in RECALLS
    ]
    return float(np.mean(heights))


def mean_average_precision(images, labels, thresholds=THRESHOLDS, size="all"):
    """Mean over thresholds and the classes that occur; None if none does."""
    values = [
        average_precision(images, label, threshold, size)
        for label in labels
        for threshold in thresholds
    ]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
