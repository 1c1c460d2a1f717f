"""What the plan takes a device to do where nothing was measured."""

import shutil
from dataclasses import dataclass

from stradavit.errors import SettingsError
from stradavit.planning.records import Device
from stradavit.settings import Settings

# Sustained TFLOP/s where nothing was measured. Of a GPU: two fifths of what an H100 could do in
# bfloat16 by its data sheet (989). Of one thread of a processor: what the small network of
# config.yaml made of it in the default run.
ASSUMED_TFLOPS = {"cuda": 400.0, "cpu": 0.04}

# Seconds until a job of a stage has started its interpreter and read its modules, see the default
# run in docs/performance.md.
_START_S = {
    "cut_part": 1.5,
    "cut_chips": 1.5,
    "cut_detection": 1.5,
    "pretrain": 3.0,
    "features": 3.0,
    "finetune": 3.0,
    "train_detector": 5.0,
    "detect": 5.0,
}
_START_OF_OTHERS_S = 0.5


@dataclass(frozen=True)
class Speed:
    """What the plan assumes of the device.

    Parameters
    ----------
    device : kind of device the jobs would run on
    tflops : TFLOP/s it sustains, for what was not measured
    is_given : whether the user said so
    """

    device: Device
    tflops: float
    is_given: bool

    @property
    def flops(self) -> float:
        """FLOP/s."""
        return self.tflops * 1e12

    def __str__(self) -> str:
        return f"{self.tflops:.3g} TFLOP/s, {'as given' if self.is_given else 'not measured'}"


def speed_of(settings: Settings, device: Device | None, tflops: float | None) -> Speed:
    """What to plan for: the device jobs would get here, unless the user names another.

    Parameters
    ----------
    device, tflops : what the user says, if anything

    Raises
    ------
    SettingsError
        If the user's speed is none.
    """
    if tflops is not None and not 0 < tflops < float("inf"):
        raise SettingsError(f"--tflops is {tflops}; expected a positive number of TFLOP/s")
    asked = settings.loader.device
    if device is None and asked == "auto":
        # As the rules decide whether to claim a GPU.
        device = "cuda" if shutil.which("nvidia-smi") else "cpu"
    elif device is None:
        device = "cuda" if asked == "cuda" else "cpu"
    threads = settings.loader.threads if device == "cpu" else 1
    usual = ASSUMED_TFLOPS[device] * threads
    return Speed(device, usual if tflops is None else tflops, tflops is not None)


def start_s(stage: str) -> float:
    """Seconds a job of a stage takes to start."""
    return _START_S.get(stage, _START_OF_OTHERS_S)
