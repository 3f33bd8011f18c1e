"""Converts upstream files to tables on the host. No other module unpickles.

A pickle can name any function of any module and have it called while it loads. ``load_pickle`` therefore provides
stand-ins for the few names that NumPy arrays need and refuses all others. The stand-ins check their arguments before
NumPy gets them. In addition, the caller compares the file's hash with ``sources.toml`` first.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import pickle
import re
import reprlib
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, check_arrays
from ncp_jax.benchmarks.catalogue import Recipe
from ncp_jax.spaces.nas_bench_201 import from_naslib, from_ncp_onehot

VERSION = 1  # raise this number when the same source gives other arrays, so that all tables are converted again

_LARGEST = 64 * 2**20  # maximum bytes of a pickle, or of one member of an archive; the real ones have at most 3 MB
_DEEPEST = 16  # maximum number of nested containers in a pickle
_KEYS = (str, bytes, int, float, bool, type(None))  # types of the keys of dictionaries
_PLAIN = (dict, list, tuple, str, bytes, int, float, bool, type(None))
_DAMAGED = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def convert(recipe: Recipe, content: bytes, sha256: str) -> TableArrays:
    """Converts an upstream file to a table, with rows in ascending order of their codes.

    Because of this order, the tables of one benchmark share their row numbers.

    Args:
      recipe: description of the table.
      content: bytes of ``recipe.file``, whose hash has been checked.
      sha256: that hash, for the record.

    Raises:
      DataError: the file is truncated or damaged, has anything but simple data, or lacks the expected content (number
        of rows, different legal codes, finite values).
    """
    read = _LAYOUTS[recipe.layout]
    try:
        codes, values = read(recipe, content)
        if len(codes) != recipe.rows:
            raise _wrong(recipe, f"{recipe.rows} architectures", f"{len(codes)}")
        order = np.lexsort(codes.T[::-1])
        arrays = check_arrays(
            recipe.name,
            space=recipe.space,
            codes=codes[order],
            values=values[order],
            metrics=recipe.metrics,
            hashes=((recipe.file, sha256),),
        )
    except checks.UsageError as error:
        # An illegal code in a file is an error of the data, not of the call.
        raise _wrong(recipe, "legal architectures", str(error)) from error
    if len(arrays.codes) != recipe.rows:
        raise _wrong(recipe, f"{recipe.rows} different architectures", f"{len(arrays.codes)}")
    return arrays


def _wrong(recipe: Recipe, expected: str, got: str) -> checks.DataError:
    remedy = f"fetch it again: ncp-jax data fetch {recipe.name}"
    return checks.DataError(expected=f"{expected} in {recipe.file}", got=got, remedy=remedy)


def _number(recipe: Recipe, row: dict[str, Any], field: str) -> float:
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise _wrong(recipe, f"a finite number as {field!r} of every architecture", _brief(value))
    return float(value)


def _values(recipe: Recipe, rows: list[Any]) -> np.ndarray:
    """Returns the columns of the table, float64 ``[n, m]``."""
    if not all(isinstance(row, dict) for row in rows):
        raise _wrong(recipe, "a list of dictionaries", "something else")
    columns = recipe.columns
    return np.array([[column.factor * _number(recipe, row, column.field) for column in columns] for row in rows])


def _read_multi_resolution(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _pickled_rows(recipe, content)
    values = _values(recipe, rows)
    codes = [row.get("embedding") for row in rows]
    if not all(isinstance(code, list) and all(type(v) is int and 0 <= v < 1000 for v in code) for code in codes):
        raise _wrong(recipe, "a list of small integers as 'embedding' of every architecture", "something else")
    if len({len(code) for code in codes}) > 1:
        raise _wrong(recipe, "codes of one length", f"lengths {sorted({len(code) for code in codes})}")
    return np.array(codes), values


def _read_cells(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _pickled_rows(recipe, content)
    values = _values(recipe, rows)
    onehot = [row.get("embedding") for row in rows]
    if not all(isinstance(code, np.ndarray) and code.shape == onehot[0].shape for code in onehot):
        raise _wrong(recipe, "an array of one shape as 'embedding' of every architecture", "something else")
    return from_ncp_onehot(np.stack([np.asarray(code) for code in onehot])), values


def _pickled_rows(recipe: Recipe, content: bytes) -> list[Any]:
    rows = load_pickle(content, recipe.file)
    if not isinstance(rows, list) or not rows:
        raise _wrong(recipe, "a list of architectures", type(rows).__name__)
    return rows


_TUPLE = re.compile(r"\(\s*\d{1,3}(\s*,\s*\d{1,3})*\s*\)")


def _read_naslib(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _archived_rows(recipe, content)
    values = _values(recipe, rows)
    codes = []
    for row in rows:
        text = row.get("arch")
        if not isinstance(text, str) or not _TUPLE.fullmatch(text):
            raise _wrong(recipe, "architectures like '(1, 2, 0, 3)'", _brief(text))
        codes.append([int(number) for number in re.findall(r"\d+", text)])
    longest = max(map(len, codes))
    if recipe.space == "transnas-macro":
        codes = [code + [0] * (longest - len(code)) for code in codes]
    elif min(map(len, codes)) < longest:
        raise _wrong(recipe, "codes of one length", f"lengths {min(map(len, codes))} and {longest}")
    array = np.array(codes)
    return (from_naslib(array) if recipe.space == "nas-bench-201" else array), values


def _archived_rows(recipe: Recipe, content: bytes) -> list[Any]:
    """Returns the joined lists of all expected members of a zip archive. No other member is read."""
    rows: list[Any] = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in recipe.members:
                with archive.open(name) as member:
                    text = member.read(_LARGEST + 1)
                if len(text) > _LARGEST:
                    raise _wrong(recipe, f"at most {_LARGEST} bytes in {name}", "more")
                part = json.loads(text)
                if not isinstance(part, list):
                    raise _wrong(recipe, f"a list in {name}", type(part).__name__)
                rows += part
    except checks.DataError:
        raise
    except (*_DAMAGED, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError) as error:
        raise _wrong(recipe, "a whole zip archive of JSON lists", f"{type(error).__name__}: {error}") from error
    return rows


_LAYOUTS: dict[str, Callable[[Recipe, bytes], tuple[np.ndarray, np.ndarray]]] = {
    "ncp-multi-resolution": _read_multi_resolution,
    "ncp-cells": _read_cells,
    "naslib": _read_naslib,
}


def load_pickle(content: bytes, where: str) -> Any:
    """Unpickles simple data: dictionaries, lists, tuples, numbers, strings, bytes, numeric NumPy arrays and scalars.

    Args:
      content: the pickle.
      where: name of the file, for the error text.

    Raises:
      DataError: the pickle needs anything else (the text names it, "os.system"), is truncated or damaged, or is larger
        or more deeply nested than any real file.
    """
    if len(content) > _LARGEST:
        raise checks.DataError(_text(where, f"at most {_LARGEST} bytes", f"{len(content)}"))
    try:
        value = _PlainUnpickler(io.BytesIO(content)).load()
        _check_plain(value, where)
    except _RefusedError as error:
        raise checks.DataError(_text(where, "a pickle of plain data and numeric arrays", str(error))) from error
    except checks.DataError:
        raise
    except _DAMAGED as error:
        raise checks.DataError(_text(where, "a whole pickle", f"{type(error).__name__}: {error}")) from error
    return value


def _text(where: str, expected: str, got: str) -> str:
    return checks.message(f"{expected} in {where}", got, "use the file as its source publishes it")


class _RefusedError(Exception):
    """The pickle needs something that simple data does not need."""


class _StandIn:
    """Stands in for an allowed name: a callable without state that the pickle could set."""

    __slots__ = ("_call", "_name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self._name, self._call = name, call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError(f"an attempt to change {self._name}")


class _DType:
    """A numeric dtype during unpickling. Its type code comes first, its byte order with the state."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, *_flags: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise _RefusedError(f"an array of type {_brief(code)}")
        self._code, self._order = code, "|" if code[1] == "1" else "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise _RefusedError("an array type with an unknown state")
        if any(part is not None for part in state[2:5]):
            raise _RefusedError("a structured array type")
        self._order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


class _PickledArray(np.ndarray):
    """An array whose state comes from a pickle. All parts of the state are checked before NumPy gets it."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("an array with an unknown state")
        version, shape, dtype, fortran, raw = state
        # NumPy pickles arrays of Python objects with a list instead of bytes.
        if not isinstance(dtype, _DType) or not isinstance(raw, bytes):
            raise _RefusedError("an array of objects")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise _RefusedError("an array with a wrong shape")
        kind = dtype.numpy()
        if len(raw) != math.prod(shape) * kind.itemsize:
            raise _RefusedError("an array whose bytes do not fill its shape")
        # NumPy's type stub wants numpy.bool here, but its code accepts only Python's bool.
        super().__setstate__((version, shape, kind, bool(fortran), raw))  # type: ignore[arg-type]


def _reconstruct(subtype: Any, shape: Any, _typecode: Any) -> _PickledArray:
    if not isinstance(subtype, _StandIn) or shape != (0,):
        raise _RefusedError("an array of another class or with an early shape")
    return np.ndarray.__new__(_PickledArray, (0,), np.int8)


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes) or len(raw) != dtype.numpy().itemsize:
        raise _RefusedError("a NumPy scalar that is no number")
    return np.frombuffer(raw, dtype.numpy())[0]


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocols 0 to 2 have no bytes. Python 3 writes bytes as a call of _codecs.encode(text, "latin1").
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"_codecs.encode to {_brief(encoding)}")
    return text.encode("latin1")


def _ndarray(*_args: Any) -> None:
    raise _RefusedError("a call of numpy.ndarray")


_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _ndarray,
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
    # NumPy 1 and NumPy 2 write different module names.
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}


_PythonUnpickler: Any = pickle._Unpickler


class _PlainUnpickler(_PythonUnpickler):
    """Maps the names in ``_ALLOWED`` to stand-ins and refuses all others. It imports nothing.

    This is the unpickler in Python. The one in C makes room for whatever index a pickle gives an object: six bytes take
    34 GB. Both hash keys of any kind, which takes for ever, or crashes, with tuples of tuples.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_PythonUnpickler.dispatch)

    def load_setitem(self) -> None:
        """Sets one entry of a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Sets the entries of a dictionary that follow the last mark."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Makes a dictionary of all that follows the last mark."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_set(self) -> None:
        """Refuses sets."""
        raise _RefusedError("an object of type 'set'")

    def load_bytearray(self) -> None:
        """Refuses byte arrays, which are made before their bytes are read."""
        raise _RefusedError("an object of type 'bytearray'")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = dispatch[pickle.ADDITEMS[0]] = dispatch[pickle.FROZENSET[0]] = load_set
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a name. The unpickler calls this for every name in the pickle."""
        full = f"{module}.{name}"
        if full not in _ALLOWED:
            raise _RefusedError(f"the name {full!r}, which plain data does not need")
        return _StandIn(full, _ALLOWED[full])


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def _check_keys(keys: list[Any]) -> None:
    for kind in set(map(type, keys)):
        if kind not in _KEYS:
            raise _RefusedError(f"a key of type {kind.__name__!r}")


def _brief(value: Any) -> str:
    """Returns a short text for a value from a file: a list may hold itself, or the same list a billion times."""
    try:
        return checks.shorten(_SHORT.repr(value))
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"


def _check_plain(value: Any, where: str) -> None:
    """Raises an error if the data has other types or is nested too deeply. It visits each container once."""
    level: list[Any] = [value]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        for kind in set(map(type, level)):
            if kind not in _PLAIN and not issubclass(kind, np.number | np.bool_ | _PickledArray):
                raise _RefusedError(f"an object of type {kind.__name__!r}")
        containers = {id(item): item for item in level if type(item) in (dict, list, tuple)}
        below: list[Any] = []
        for item in (containers[key] for key in containers.keys() - seen):
            below += [*item.keys(), *item.values()] if isinstance(item, dict) else item
        if not below:
            return
        seen |= containers.keys()
        level = below
    raise checks.DataError(_text(where, f"data at most {_DEEPEST} levels deep", "deeper"))
