"""The settings as a page to read: every key with its default and the sentence that explains it."""

import json
import types
import typing
from typing import Any

from pydantic.fields import FieldInfo

from stradavit.settings.base import Block


def describe(block: type[Block], indent: int = 0, given: Block | None = None) -> str:
    """Indented lines `key: default  # meaning`, blocks in blocks, sources of a union in turn.

    `given` is the default of the block as a whole, where that differs from its class's.
    """
    pad = "  " * indent
    lines = []
    for name, field in block.model_fields.items():
        inner = _blocks_in(field.annotation)
        meaning = f"  # {field.description}" if field.description else ""
        if not inner:
            lines.append(f"{pad}{name}: {_default(name, field, given)}{meaning}")
            continue
        lines.append(f"{pad}{name}:{meaning}")
        is_mapping = typing.get_origin(field.annotation) is dict
        depth = indent + (2 if is_mapping else 1)
        if is_mapping:
            lines.append(f"{pad}  <name>:")
        for kind in inner:
            if len(inner) > 1:
                lines.append(f"{'  ' * depth}# {_first_line(kind)}")
            default = getattr(given, name) if given else field.default
            lines.append(describe(kind, depth, default if isinstance(default, kind) else None))
    return "\n".join(lines)


def _blocks_in(annotation: Any) -> list[type[Block]]:
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (dict, typing.Union, types.UnionType, typing.Annotated):
        return [kind for argument in typing.get_args(annotation) for kind in _blocks_in(argument)]
    return []


def _default(name: str, field: FieldInfo, given: Block | None) -> str:
    if field.is_required() and given is None:
        return _literal(field.annotation) or "<required>"
    value = field.default if given is None else getattr(given, name)
    return "null" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _literal(annotation: Any) -> str | None:
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    return None


def _first_line(kind: type[Block]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
