"""Drawn SAR scenes: speckle on sea and land, with ships, tanks and bridges, and their boxes.

A scene is a map of mean intensities (sea with swell, brighter land, targets), times speckle: gamma
noise of few looks, as the multi-look intensity of a distributed target has (Goodman 1976). What is
stored is the amplitude in 8 bits, as in published chips.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stradavit.acquire.simulated.sky import generator
from stradavit.files import write_json
from stradavit.settings.detection import SPLITS, SimulatedScenes

CLASSES = ("ship", "tank", "bridge")
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Intensities; what is drawn has amplitude sqrt(intensity).
SEA, LAND = 1.0, 9.0
TARGET = {"ship": 180.0, "tank": 160.0, "bridge": 90.0}
# Full scale of the stored amplitudes: strong targets saturate, as they do in published chips.
WHITE = 18.0
# Targets are few strong scatterers, whose sum fluctuates less than clutter.
TARGET_LOOKS = 12.0
# Every eighth scene is empty, every eighth has one box, so that sets of any size have both.
EVERY, EMPTY, LONE = 8, 3, 5
MOST_TARGETS = 6
TRIES = 12
# Targets keep so many pixels apart: no box tells of another's pixels.
GAP_PX = 3
N_WAVES = 6


@dataclass(frozen=True)
class DrawnScene:
    """A scene and what is in it.

    Parameters
    ----------
    pixels : (ny, nx) or (ny, nx, 3) uint8
    owner : (ny, nx) int, number of the target whose body a pixel is, from 1; 0 where there is none
    labels : class of each target
    """

    pixels: NDArray[np.uint8]
    owner: NDArray[np.int64]
    labels: tuple[str, ...]

    def box(self, target: int) -> tuple[int, int, int, int]:
        """Tight box x0, y0, x1, y1 (half-open) of a target, from 0."""
        ys, xs = np.nonzero(self.owner == target + 1)
        return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def draw_scenes(block: SimulatedScenes, folder: Path) -> str:
    """Write the pictures and annotations of a set into `folder`, in the layout of SARDet-100K.

    Parameters
    ----------
    block : number of scenes of each split, their size, and the seed
    folder : gets `JPEGImages/<split>/<number>.png` and `Annotations/<split>.json`

    Returns
    -------
    SHA-256 of all pixels, as hex
    """
    digest = hashlib.sha256()
    counts = block.images.model_dump()
    for split in SPLITS:
        pictures = folder / "JPEGImages" / split
        pictures.mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for number in range(counts[split]):
            scene = draw_scene(block.seed, split, number, block.side_px)
            name = f"{number:06d}.png"
            # Half a picture after a crash is harmless: the next call draws all of them again.
            Image.fromarray(scene.pixels).save(pictures / name)
            digest.update(scene.pixels.tobytes())
            ny, nx = scene.owner.shape
            images.append({"id": number, "file_name": name, "width": nx, "height": ny})
            for target, label in enumerate(scene.labels):
                x0, y0, x1, y1 = scene.box(target)
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": number,
                        "category_id": CLASSES.index(label) + 1,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
        coco = {"images": images, "annotations": boxes, "categories": categories}
        write_json(folder / "Annotations" / f"{split}.json", coco)
    return digest.hexdigest()


def draw_scene(seed: int, split: str, number: int, side_px: int) -> DrawnScene:
    """Draw one scene; a function of these four and of nothing else.

    Sides are 0.75 to 1.25 of `side_px`, odd or even. About a third are stored in colour, all
    three channels equal.
    """
    rng = generator(seed, "scene", split, number, side_px)
    ny, nx = (int(side) for side in rng.integers(round(0.75 * side_px), round(1.25 * side_px), 2))
    canvas = _Canvas(rng, ny, nx)
    turn = number % EVERY
    n_targets = {EMPTY: 0, LONE: 1}.get(turn, 1 + int(rng.integers(MOST_TARGETS)))
    for _ in range(n_targets):
        canvas.add_target()
    pixels = canvas.developed()
    if number % 3 == 1:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return DrawnScene(pixels, canvas.owner, tuple(canvas.labels))


class _Canvas:
    """A scene while it is drawn."""

    def __init__(self, rng: np.random.Generator, ny: int, nx: int) -> None:
        self.rng = rng
        self.y, self.x = np.mgrid[0:ny, 0:nx].astype(np.float64)
        self.owner = np.zeros((ny, nx), np.int64)
        self.labels: list[str] = []
        angle = rng.uniform(0.0, 2.0 * np.pi)
        # Along and across the shore, from a point near the middle, in pixels.
        middle = np.array([ny, nx]) * rng.uniform(0.4, 0.6, 2)
        self.along, self.across = self._turned(middle[0], middle[1], angle)
        self.shore_angle = angle
        wave = 2.0 * np.pi * self.along / (rng.uniform(0.6, 1.5) * max(ny, nx))
        self.across = self.across - rng.uniform(0.0, 8.0) * np.sin(wave + rng.uniform(0.0, 6.0))
        self.strait_px = rng.uniform(0.1, 0.2) * min(ny, nx)
        self.kind = str(rng.choice(["open", "coast", "strait"], p=[0.3, 0.35, 0.35]))
        ragged = 2.5 * _rough(rng, self.y, self.x, 12.0)
        beyond = {
            "open": np.full((ny, nx), -np.inf),
            "coast": self.across - 0.1 * min(ny, nx),
            "strait": np.abs(self.across) - self.strait_px,
        }[self.kind]
        self.land: Mask = beyond + ragged > 0
        swell = 1.0 + 0.3 * np.sin(2.0 * np.pi * self._turned(0.0, 0.0, angle + 1.0)[0] / 9.0)
        sea = SEA * swell * np.exp(0.2 * _rough(rng, self.y, self.x, 30.0))
        texture = np.exp(0.35 * _rough(rng, self.y, self.x, 6.0))
        self.clutter = np.where(self.land, LAND * texture, sea)
        self.targets = np.zeros((ny, nx))

    def add_target(self) -> None:
        """Draw a target where it fits, or none if it fits nowhere."""
        for _ in range(TRIES):
            label = str(self.rng.choice(self._possible()))
            draw: dict[str, Callable[[], tuple[Mask, Floats]]] = {
                "ship": self._ship,
                "tank": self._tank,
                "bridge": self._bridge,
            }
            body, shine = draw[label]()
            if self._fits(label, body):
                self.owner[body] = len(self.labels) + 1
                self.labels.append(label)
                self.targets += shine
                return

    def developed(self) -> NDArray[np.uint8]:
        """(ny, nx) uint8 amplitudes with speckle."""
        looks = float(self.rng.integers(1, 5))
        shape = self.clutter.shape
        intensity = self.clutter * self.rng.gamma(looks, 1.0 / looks, shape)
        intensity += self.targets * self.rng.gamma(TARGET_LOOKS, 1.0 / TARGET_LOOKS, shape)
        scaled = np.sqrt(intensity) * (255.0 / WHITE)
        stored: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return stored

    def _possible(self) -> list[str]:
        if self.kind == "open":
            return ["ship"]
        return ["ship", "tank"] if self.kind == "coast" else ["ship", "tank", "bridge"]

    def _fits(self, label: str, body: Mask) -> bool:
        if not body.any():
            return False
        ys, xs = np.nonzero(body)
        around = self.owner[
            max(0, ys.min() - GAP_PX) : ys.max() + GAP_PX + 1,
            max(0, xs.min() - GAP_PX) : xs.max() + GAP_PX + 1,
        ]
        if around.any():
            return False
        if label == "bridge":
            # It must begin and end on land, and span water.
            return bool(self.land[body].any() and not self.land[body].all())
        is_land = self.land[body]
        return bool(is_land.all() if label == "tank" else not is_land.any())

    def _turned(self, y: float, x: float, angle: float) -> tuple[Floats, Floats]:
        """Coordinates along and across a direction, from a point, in pixels."""
        dy, dx = self.y - y, self.x - x
        return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)

    def _anywhere(self, margin_px: float) -> tuple[float, float]:
        ny, nx = self.owner.shape
        return (
            self.rng.uniform(margin_px, ny - 1 - margin_px),
            self.rng.uniform(margin_px, nx - 1 - margin_px),
        )

    def _ship(self) -> tuple[Mask, Floats]:
        """An elongated blob with a few stronger scatterers, their sidelobes, and a dark wake."""
        rng = self.rng
        half = float(np.exp(rng.uniform(np.log(4.0), np.log(0.13 * min(self.owner.shape)))))
        width = max(1.6, half * rng.uniform(0.2, 0.35))
        y, x = self._anywhere(half)
        angle = rng.uniform(0.0, 2.0 * np.pi)
        u, v = self._turned(y, x, angle)
        body = np.abs(u / half) ** 3 + np.abs(v / width) ** 3 < 1.0
        shine = TARGET["ship"] * rng.uniform(0.5, 1.0) * body.astype(np.float64)
        # One ship in three has a corner reflector whose sidelobes reach out of its box.
        peaks = np.array([1.0, 1.5, 12.0 if rng.random() < 0.33 else 1.5]) * TARGET["ship"]
        for at, peak in zip(rng.uniform(-0.7, 0.7, 3) * half, peaks, strict=True):
            shine += self._cross(y + at * np.sin(angle), x + at * np.cos(angle), peak)
        if rng.random() < 0.4 and self._fits("ship", body):
            wake = (u < -half) & (u > -4.0 * half) & (np.abs(v) < 0.12 * np.abs(u))
            self.clutter[wake & ~self.land] *= 0.35
        return body, shine

    def _cross(self, y0: float, x0: float, peak: float) -> Floats:
        """Response of an unweighted antenna to a point: sinc squared along each axis."""
        along_y = np.sinc(0.6 * (self.y[:, :1] - y0)) ** 2
        along_x = np.sinc(0.6 * (self.x[:1] - x0)) ** 2
        response: Floats = peak * along_y * along_x
        return response

    def _tank(self) -> tuple[Mask, Floats]:
        """A ring, the rim of a storage tank, brightest on the side that looks to the sensor."""
        radius = self.rng.uniform(3.0, 7.0)
        y, x = self._anywhere(radius + 1.0)
        distance = np.hypot(self.y - y, self.x - x)
        body = distance < radius + 0.5
        rim = np.abs(distance - radius + 0.5) < 1.0
        facing = 0.6 + 0.4 * np.cos(np.arctan2(self.y - y, self.x - x) - self.shore_angle)
        shine: Floats = TARGET["tank"] * np.where(rim & body, facing, 0.1 * body)
        return body, shine

    def _bridge(self) -> tuple[Mask, Floats]:
        """A long thin line from shore to shore."""
        rng = self.rng
        ny, nx = self.owner.shape
        at = rng.uniform(-0.3, 0.3) * max(ny, nx)
        thick = rng.uniform(1.2, 2.2)
        reach = self.strait_px + rng.uniform(4.0, 9.0)
        body = (np.abs(self.along - at) < thick) & (np.abs(self.across) < reach)
        return body, TARGET["bridge"] * rng.uniform(0.7, 1.2) * body.astype(np.float64)


def _rough(rng: np.random.Generator, y: Floats, x: Floats, scale_px: float) -> Floats:
    """A smooth random surface of unit variance: a few waves about `scale_px` long."""
    surface = np.zeros(y.shape)
    for _ in range(N_WAVES):
        rate = 2.0 * np.pi / (scale_px * rng.uniform(0.7, 1.5))
        direction, phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        # sin(a + b) from its parts: two rows of sines instead of a whole image.
        down = rate * np.sin(direction) * y[:, :1]
        right = rate * np.cos(direction) * x[:1] + phase
        surface += np.sin(down) * np.cos(right) + np.cos(down) * np.sin(right)
    rough: Floats = surface * np.sqrt(2.0 / N_WAVES)
    return rough
