"""Read pickled numpy arrays without letting the pickle run anything.

A pickle is a program: it names functions and calls them. Here the few names that numpy's own
pickles need (of numpy 1 and 2, protocols 0 to 5) lead to the stand-ins below, which check their
arguments and build plain arrays; every other name is refused before anything is called.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stradavit.errors import DataError

DTYPE_CODE = re.compile(r"[?]|[biufUS][0-9]{1,5}")
DAMAGE = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class PickledDtype:
    """Stands for numpy.dtype: numbers and text of fixed width, never objects or records."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not DTYPE_CODE.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of the dtype {str(code)[:40]!r}")
        self.code, self.byteorder = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *record = state[1:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in record):
            raise pickle.UnpicklingError("an array of records")
        self.byteorder = order

    def to_numpy(self) -> np.dtype[Any]:
        """The dtype itself."""
        return np.dtype(self.byteorder + self.code)


class _Budget:
    """Bytes that may still be made: a pickle can have one text copied a million times."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes

    def spend(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left < 0:
            raise pickle.UnpicklingError("arrays larger than the file")


class PickledArray:
    """Stands for numpy.ndarray: shape, dtype and bytes, checked against each other."""

    __slots__ = ("_budget", "array")

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.array: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, is_fortran, raw = state[-4:]
        self.array = _array(self._budget, raw, dtype, shape, "F" if is_fortran else "C")


def _array(
    budget: _Budget, raw: object, dtype: object, shape: object, order: object
) -> NDArray[Any]:
    if isinstance(raw, str):
        # Python 2 wrote bytes as text; the unpickler was told to decode them as Latin-1.
        budget.spend(len(raw))
        raw = raw.encode("latin1")
    if not isinstance(dtype, PickledDtype) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array that is not made of numbers or text")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError(f"an array of the shape {shape!r}")
    known = dtype.to_numpy()
    if math.prod(shape) * known.itemsize != len(raw):
        raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of {known} {shape}")
    flat = np.frombuffer(raw, known) if raw else np.empty(0, known)
    return flat.reshape(shape, order="F" if order == "F" else "C")


class _Name:
    """A name a pickle may call. It has no attributes a pickle could change."""

    __slots__ = ("call",)
    call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError("a change of a function")


def _dtype(_budget: _Budget, code: Any, *_: object) -> PickledDtype:
    return PickledDtype(code)


def _reconstruct(budget: _Budget, *_: object) -> PickledArray:
    return PickledArray(budget)


def _from_buffer(
    budget: _Budget, raw: Any, dtype: Any, shape: Any, order: Any, *_: object
) -> PickledArray:
    made = PickledArray(budget)
    made.array = _array(budget, raw, dtype, shape, order)
    return made


def _scalar(budget: _Budget, dtype: Any, raw: Any) -> Any:
    return _array(budget, raw, dtype, (), "C")[()]


def _encode(budget: _Budget, text: Any, encoding: Any) -> bytes:
    # Python 3 writes bytes so if it is asked for protocol 2.
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError("text in an odd encoding")
    budget.spend(len(text))
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _reconstruct,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): call
        for core in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="latin1")
        # Each byte of a file of ours is copied once, or not at all.
        self._budget = _Budget(2 * len(raw))

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Name(partial(ADMITTED[module, name], self._budget))
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def load_arrays(raw: bytes, where: str) -> dict[str, Any]:
    """The mapping in a pickle of numbers, text, containers and numpy arrays.

    Parameters
    ----------
    raw : the whole pickle
    where : file, for messages

    Returns
    -------
    Its values, by name (bytes become text). Arrays stand as values or in lists that are values.

    Raises
    ------
    DataError
        If the pickle holds anything else, or is damaged; nothing of it has been run.
    """
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            is_memo = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            # The unpickler makes room for the highest entry, so a small file could fill the memory.
            if is_memo and isinstance(argument, int) and argument > len(raw):
                raise pickle.UnpicklingError("a table larger than the file")
        loaded = _Unpickler(raw).load()
        if isinstance(loaded, dict):
            return {_text(key): _plain(value) for key, value in loaded.items()}
    except DAMAGE as error:
        raise DataError(
            f"{where}: found {error}; only numpy arrays of numbers and text in lists and mappings "
            "are admitted. Not loaded. If you trust its origin, save the arrays again with numpy."
        ) from error
    raise DataError(f"{where}: found a {type(loaded).__name__}; expected a mapping of arrays.")


def _text(key: object) -> str:
    if not isinstance(key, str | bytes):
        raise pickle.UnpicklingError(f"a {type(key).__name__} as a name")
    return key.decode("latin1") if isinstance(key, bytes) else key


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_item(item) for item in value]
    return value.array if isinstance(value, PickledArray) else value


def _item(item: Any) -> Any:
    # A list may hold one other list many times, and a small file so become a large array.
    if isinstance(item, list | tuple | dict | set | frozenset):
        raise pickle.UnpicklingError(f"a {type(item).__name__} in a list")
    return item.array if isinstance(item, PickledArray) else item
