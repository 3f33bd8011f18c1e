"""Stands in for the names that a pickle of plain data may use: those of NumPy, ordered dictionaries, sets."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ncp_jax import checks

KEYS = (str, bytes, int, float, bool, type(None))  # types of the keys of dictionaries
_LARGEST_KEY = 2**60  # larger integers can be chosen so that their hashes are equal
_PARTS = 8  # maximum number of parts of a key


class RefusedError(Exception):
    """The pickle needs something that simple data does not need."""


class StandIn:
    """Stands in for an allowed name: a callable without state that the pickle could set."""

    __slots__ = ("_call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name, self._call = name, call

    def __call__(self, *args: Any) -> Any:
        """Calls what stands in."""
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError(f"an attempt to change {self.name}")


class _DType:
    """A numeric dtype during unpickling. Its type code comes first, its byte order with the state."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *_flags: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise RefusedError(f"an array of type {brief(code)}")
        self._code, self._order = code, "|" if code[1] == "1" else "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("an array type with an unknown state")
        if any(part is not None for part in state[2:5]):
            raise RefusedError("a structured array type")
        self._order = state[1]

    def numpy(self) -> np.dtype[Any]:
        """Returns the dtype."""
        return np.dtype(self._order + self._code)


class _PickledArray(np.ndarray):
    """An array whose state comes from a pickle. All parts of the state are checked before NumPy gets it."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("an array with an unknown state")
        version, shape, dtype, fortran, raw = state
        # NumPy pickles arrays of Python objects with a list instead of bytes.
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
            raise RefusedError("an array of objects")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise RefusedError("an array with a wrong shape")
        kind = dtype.numpy()
        if len(raw) != math.prod(shape) * kind.itemsize:
            raise RefusedError("an array whose bytes do not fill its shape")
        # NumPy's type stub wants numpy.bool here, but its code accepts only Python's bool.
        super().__setstate__((version, shape, kind, bool(fortran), raw))  # type: ignore[arg-type]


class Ordered(dict[Any, Any]):
    """An ordered dictionary, whose attributes (of PyTorch's weights, the versions of its layers) are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drops the state."""


def _ordered(*items: Any) -> Ordered:
    made = Ordered()
    if items:
        # Python 2, and protocols 0 and 1, give the entries at once.
        if len(items) != 1 or type(items[0]) is not list or not all(type(item) in (list, tuple) for item in items[0]):
            raise RefusedError("an ordered dictionary of anything but entries")
        if any(len(item) != 2 for item in items[0]):
            raise RefusedError("an ordered dictionary of anything but entries")
        check_keys([item[0] for item in items[0]], nested=True)
        made.update((key, value) for key, value in items[0])
    return made


def _set(*items: Any) -> set[Any]:
    if len(items) > 1 or (items and type(items[0]) not in (list, tuple)):
        raise RefusedError("a set of anything but a list")
    check_keys(list(items[0]) if items else [], nested=True)
    return set(items[0]) if items else set()


def _reconstruct(subtype: Any, shape: Any, _typecode: Any) -> _PickledArray:
    if not isinstance(subtype, StandIn) or shape != (0,):
        raise RefusedError("an array of another class or with an early shape")
    return np.ndarray.__new__(_PickledArray, (0,), np.int8)


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes) or len(raw) != dtype.numpy().itemsize:
        raise RefusedError("a NumPy scalar that is no number")
    return np.frombuffer(raw, dtype.numpy())[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocols 0 to 2 have no bytes. Python 3 writes bytes as a call of _codecs.encode(text, "latin1").
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError(f"_codecs.encode to {brief(encoding)}")
    return text.encode("latin1")


def no_call(what: str) -> Callable[..., Any]:
    """Returns what stands in for a name that a pickle may mention and not call."""

    def refuse(*_args: Any) -> None:
        raise RefusedError(f"a call of {what}")

    return refuse


ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": no_call("numpy.ndarray"),
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
    # NumPy 1 and NumPy 2 write different module names.
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}
OFFICIAL: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "builtins.set": _set,
    "__builtin__.set": _set,
}


def check_keys(keys: list[Any], *, nested: bool) -> None:
    """Raises RefusedError for keys whose hashes take time: of other types, deep tuples, integers of many digits."""
    kinds = set(map(type, keys))
    if nested and tuple in kinds:
        parts = [key for key in keys if type(key) is tuple]
        if max(map(len, parts)) > _PARTS:
            raise RefusedError("a key of many parts")
        check_keys([part for key in parts for part in key], nested=False)
        kinds.discard(tuple)
    for kind in kinds:
        if kind not in KEYS:
            raise RefusedError(f"a key of type {kind.__name__!r}")
    if int in kinds and any(type(key) is int and not -_LARGEST_KEY < key < _LARGEST_KEY for key in keys):
        raise RefusedError("an integer of many digits as a key")


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def brief(value: Any) -> str:
    """Returns a short text for a value from a file: a list may hold itself, or the same list a billion times."""
    try:
        return checks.shorten(_SHORT.repr(value))
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"


def not_as_published(expected: str, where: str, got: str) -> checks.DataError:
    """Returns the error for a file whose content is not that of the published one.

    Args:
      expected: what the file has to hold.
      where: name of the file.
      got: what it holds.
    """
    return checks.DataError(
        expected=f"{expected} in {where}", got=got, remedy="use the file as its source publishes it"
    )
