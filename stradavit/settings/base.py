"""What every settings block shares: frozen, no unknown keys, JSON that is the same every time."""

import json
import os
import re
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from stradavit.errors import SettingsError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"the interval {list(interval)} runs backwards; write [low, high]")
    return interval


def _expand(path: str) -> str:
    expanded = os.path.expandvars(path)
    if unset := re.findall(r"\$\w+|\$\{\w+\}", expanded):
        raise ValueError(f"the environment variable {unset[0]} is not set; export it first")
    return expanded


# Credentials have no place in a configuration; who puts one there must not find it in a log.
SECRET = re.compile(r"pass|token|key|secret|user|login|credential", re.IGNORECASE)

PathText = Annotated[str, AfterValidator(_expand)]
Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
FractionInterval = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]


class Block(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _complete_blocks(cls, values: Any) -> Any:
        # A block given in part keeps the rest of its own default, which may differ from that of
        # its class: `training.dinov2: {epochs: 5}` must not lose the learning rate for DINOv2.
        if not isinstance(values, dict):
            return values
        defaults = {
            name: field.default.model_dump()
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Block) and isinstance(values.get(name), dict)
        }
        return values | {name: merge(default, values[name]) for name, default in defaults.items()}

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


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `overlay`: mappings merge, everything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            value = merge(known, value)
        merged[key] = value
    return merged


def describe_faults(error: ValidationError) -> str:
    """One line per fault: dotted path, what was found, what was expected."""
    lines = []
    for fault in error.errors():
        path = _dotted_path(fault["loc"])
        if fault["type"] == "extra_forbidden":
            value = "" if SECRET.search(path) else f" (its value is {_shorten(fault['input'])})"
            lines.append(
                f"{path}: unknown key{value}. Check the spelling against `stradavit settings`, "
                "which lists every key with its meaning."
            )
        elif fault["type"] == "missing":
            lines.append(f"{path}: missing, and it has no default.")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message}{_found(path, fault['input'])}.")
    plural = "" if len(lines) == 1 else "s"
    return f"{len(lines)} fault{plural} in the configuration:\n  " + "\n  ".join(lines)


def _dotted_path(steps: tuple[int | str, ...]) -> str:
    # Pydantic puts the tag of a union (`source: local`) into the path, where no key stands.
    unions = (("surveys",), ("benchmarks",), ("encoders",), ("detection", "sets"))
    for union in unions:
        tag = len(union) + 1
        if steps[: len(union)] == union and len(steps) > tag:
            steps = steps[:tag] + steps[tag + 1 :]
    return ".".join(str(step) for step in steps) or "config"


def _found(path: str, value: object) -> str:
    """A wrong value, unless a password could be in it: errors end in logs."""
    is_login = re.search(r":[^/\s]*@|://.*[@?]", str(value))
    return "" if is_login or SECRET.search(path) else f" (found {_shorten(value)})"


def _shorten(value: object, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
