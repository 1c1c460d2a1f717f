"""What every settings block shares: frozen, no unknown keys, JSON that is the same every time."""

import json
import os
import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stradavit.errors import SettingsError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"the interval {list(interval)} runs backwards; write [low, high]")
    return interval


def _expand(path: str) -> str:
    expanded = os.path.expandvars(path)
    if unset := re.findall(r"\$\w+|\$\{\w+\}", expanded):
        raise ValueError(f"the environment variable {unset[0]} is not set; export it first")
    return expanded


PathText = Annotated[str, AfterValidator(_expand)]
Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
FractionInterval = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]


class Block(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> str:
        """Sorted JSON: equal settings give equal text, so Snakemake reruns only on a change."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @classmethod
    def parse(cls, value: str | dict[str, Any]) -> Self:
        """Validate a JSON text or a mapping; all faults are reported at once.

        Raises
        ------
        SettingsError
            With one line for each fault, led by the dotted path of the key.
        """
        try:
            if isinstance(value, str):
                return cls.model_validate_json(value)
            return cls.model_validate(value)
        except ValidationError as error:
            raise SettingsError(describe_faults(error)) from None


def describe_faults(error: ValidationError) -> str:
    """One line per fault: dotted path, what was found, what was expected."""
    lines = []
    for fault in error.errors():
        path = _dotted_path(fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(
                f"{path}: unknown key (its value is {fault['input']!r}). Check the spelling "
                "against `stradavit settings`, which lists every key with its meaning."
            )
        elif fault["type"] == "missing":
            lines.append(f"{path}: missing, and it has no default.")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message} (found {_shorten(fault['input'])}).")
    plural = "" if len(lines) == 1 else "s"
    return f"{len(lines)} fault{plural} in the configuration:\n  " + "\n  ".join(lines)


def _dotted_path(steps: tuple[int | str, ...]) -> str:
    # Pydantic puts the tag of a union (`source: local`) into the path, where no key stands.
    if len(steps) > 2 and steps[0] in ("surveys", "benchmarks", "encoders"):
        steps = steps[:2] + steps[3:]
    return ".".join(str(step) for step in steps) or "config"


def _shorten(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
