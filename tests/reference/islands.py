"""Islands and peaks of an image, pixel by pixel."""

import numpy as np


def count_islands(image: np.ndarray, threshold: float) -> int:
    """Groups of pixels above the threshold that touch along an edge, by flood fill."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(image > threshold)}
    n_islands = 0
    while todo:
        n_islands += 1
        stack = [todo.pop()]
        while stack:
            y, x = stack.pop()
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in todo:
                    todo.remove(neighbour)
                    stack.append(neighbour)
    return n_islands


def count_peaks(image: np.ndarray, threshold: float) -> int:
    """Pixels above the threshold and above all their eight neighbours."""
    n_peaks = 0
    for y, x in np.argwhere(image > threshold):
        around = image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        n_peaks += int(np.count_nonzero(around >= image[y, x]) == 1)
    return n_peaks
