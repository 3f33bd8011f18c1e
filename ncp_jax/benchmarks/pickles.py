"""Unpickles plain data without running anything that a pickle names. No other module unpickles.

A pickle can name any function of any module and have it called while it loads. The readers here provide stand-ins for
the few names that NumPy arrays, ordered dictionaries and PyTorch's tensors need, and refuse all others. The stand-ins
check their arguments. A pickle can also ask for time and memory: what it makes is bounded by its size and by limits.
"""

from __future__ import annotations

import copyreg
import gc
import io
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.stand_ins import ALLOWED, OFFICIAL, Ordered, RefusedError, StandIn, check_keys, not_as_published

LARGEST = 64 * 2**20  # maximum bytes of a pickle in memory, and of one text or number of bytes in any pickle
LONGEST = 2**20  # maximum number of entries of one list, tuple, set or dictionary
MEMORY = 2 * 10**9  # maximum bytes of the objects of one pickle
_DEEPEST = 16  # maximum number of nested containers in a pickle
_STEPS = 2**16  # steps between two looks at what was made
_SPARE = 2 * 10**5  # steps and objects that a pickle of any size may take
_MARKS = 1000  # maximum number of containers that are begun and not ended
_OBJECT = 64  # bytes that a small object takes, about
_PLAIN = (dict, list, tuple, str, bytes, int, float, bool, type(None))
_LONG = 10**5  # maximum bytes of an integer: larger ones are no data
_UINT4, _UINT8, _INT4 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<i")  # forms of a length
_RUN = 32  # floats that are read at once
_FLOATS = [struct.Struct(">d" + "xd" * count) for count in range(_RUN)]

DAMAGED = (
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
"""What unpickling raises where a file is damaged."""


PickleFile = io.BytesIO | mmap.mmap


def load_pickle(content: bytes, where: str) -> Any:
    """Unpickles simple data: dictionaries, lists, tuples, numbers, strings, bytes, numeric NumPy arrays and scalars.

    Args:
      content: the pickle.
      where: name of the file, for the error text.

    Raises:
      DataError: the pickle needs anything else (the text names it, "os.system"), is truncated or damaged, or is larger
        or more deeply nested than any real file.
    """
    if len(content) > LARGEST:
        raise not_as_published(f"at most {LARGEST} bytes", where, f"{len(content)}")
    return _loaded(_PlainUnpickler(io.BytesIO(content), len(content), ALLOWED), where)


def read_pickle(
    file: PickleFile,
    size: int,
    where: str,
    *,
    names: Mapping[str, Callable[..., Any]] = {},
    storage: Callable[[Any], Any] | None = None,
    memory: float = MEMORY,
) -> Any:
    """Unpickles what benchmarks are published as: beside plain data, ordered dictionaries, sets, tuples as keys.

    Ordered dictionaries come back as dictionaries, which keep the order of their entries too.

    Args:
      file: where the pickle begins at the present position. Afterwards the position is behind it.
      size: maximum number of bytes of the pickle.
      where: name of the file, for the error text.
      names: further names that the pickle may use, each with what is called in its place.
      storage: what is called for the persistent names of a pickle, which PyTorch's storages are; None to refuse them.
      memory: maximum bytes of what is made, estimated.

    Raises:
      DataError: as ``load_pickle``.
    """
    allowed = {**ALLOWED, **OFFICIAL, **names}
    return _loaded(_OfficialUnpickler(file, size, allowed, storage=storage, memory=memory), where)


def _loaded(unpickler: _PlainUnpickler, where: str) -> Any:
    # The collector would look at all objects again and again while they are made.
    collects = gc.isenabled()
    gc.disable()
    try:
        value = unpickler.load()
        _check_plain(value, where, unpickler.makes)
    except _MemoryError as error:
        text = checks.message(
            f"objects of at most {unpickler.memory / 1e9:g} GB in {where}",
            "more",
            "give more memory with --memory-gb, or use a file of fewer architectures",
        )
        raise checks.DataError(text) from error
    except RefusedError as error:
        raise not_as_published("a pickle of plain data and numeric arrays", where, str(error)) from error
    except checks.DataError:
        raise
    except DAMAGED as error:
        raise not_as_published("a whole pickle", where, f"{type(error).__name__}: {error}") from error
    finally:
        if collects:
            gc.enable()
    return value


class _MemoryError(Exception):
    """The objects of a pickle take more memory than was allowed."""


_PythonUnpickler: Any = pickle._Unpickler
_Stop: Any = pickle._Stop  # type: ignore[attr-defined]


class _PlainUnpickler(_PythonUnpickler):
    """Maps the names that are allowed to stand-ins and refuses all others. It imports nothing.

    This is the unpickler in Python. The one in C makes room for whatever index a pickle gives an object: six bytes take
    34 GB. Both hash keys of any kind, which takes for ever, or crashes, with tuples of tuples.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_PythonUnpickler.dispatch)
    nested = False  # whether keys may be tuples
    makes: tuple[type, ...] = ()  # further types of what is made

    def __init__(
        self,
        file: PickleFile,
        size: int,
        allowed: Mapping[str, Callable[..., Any]],
        *,
        storage: Callable[[Any], Any] | None = None,
        memory: float = MEMORY,
    ) -> None:
        super().__init__(file)
        self._file, self._size, self._allowed, self._storage = file, size, allowed, storage
        self._most_steps, self._most_objects = _SPARE + size // 2, _SPARE + size // 3
        self.memory = memory

    def load(self) -> Any:
        """Returns what the pickle holds. Frames are read through: they only say how to read a file in portions."""
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.proto = 0
        self.append = self.stack.append
        self.read, self.readline = self._file.read, self._file.readline
        read = self.read
        dispatch, steps, before = self.dispatch, 0, sys.getallocatedblocks()
        try:
            while True:
                for _ in range(_STEPS):
                    key = read(1)
                    if not key:
                        raise EOFError
                    dispatch[key[0]](self)
                steps += _STEPS
                # An object that is kept for later takes five bytes at least.
                made = max(sys.getallocatedblocks() - before, 2 * len(self.memo))
                if made > self.memory / _OBJECT:
                    raise _MemoryError
                if len(self.stack) > LONGEST:
                    raise RefusedError(f"more than {LONGEST} entries in one container")
                if steps > self._most_steps or made > self._most_objects or len(self.metastack) > _MARKS:
                    raise RefusedError("more objects than a file of its size has")
        except _Stop as stop:
            return stop.value

    def load_frame(self) -> None:
        """Checks that the frame can be there."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._size:
            raise EOFError(f"a frame of {size} bytes")

    def load_binfloat(self) -> None:
        """Reads a float and those that follow it: learning curves are lists of floats."""
        content = self.read(_RUN * 9 - 1)
        tags = content[8::9]
        count = min(len(tags) - len(tags.lstrip(b"G")), max(0, len(content) - 8) // 9)
        self.stack.extend(_FLOATS[count].unpack_from(content))
        self._file.seek(9 * count + 8 - len(content), os.SEEK_CUR)

    def load_binunicode(self) -> None:
        """Reads a text whose length has four bytes."""
        self.append(str(self._part(_UINT4), "utf-8", "surrogatepass"))

    def load_binunicode8(self) -> None:
        """Reads a text whose length has eight bytes."""
        self.append(str(self._part(_UINT8), "utf-8", "surrogatepass"))

    def load_binbytes(self) -> None:
        """Reads bytes whose number has four bytes."""
        self.append(self._part(_UINT4))

    def load_binbytes8(self) -> None:
        """Reads bytes whose number has eight bytes."""
        self.append(self._part(_UINT8))

    def load_binstring(self) -> None:
        """Reads a text of Python 2 whose length has four bytes."""
        self.append(self._decode_string(self._part(_INT4)))

    def load_long4(self) -> None:
        """Reads an integer whose length has four bytes."""
        self.append(pickle.decode_long(self._part(_INT4, _LONG, "an integer")))

    def _part(self, length: struct.Struct, most: int = LARGEST, what: str = "a part") -> bytes:
        """Returns the bytes behind a length, which is checked before room is made for them."""
        (size,) = length.unpack(self.read(length.size))
        if not 0 <= size <= min(most, self._size):
            raise EOFError(f"{what} of {size} bytes")
        return self.read(size)

    def get_extension(self, code: int) -> None:
        """Refuses a name that this process has registered as a number, whatever was loaded from it before."""
        name = copyreg._inverted_registry.get(code)  # type: ignore[attr-defined]
        if name is None:
            raise pickle.UnpicklingError(f"unregistered extension code {code}")
        self.append(self.find_class(*name))

    def load_appends(self) -> None:
        """Appends what follows the last mark to a list."""
        super().load_appends()
        _check_length(self.stack[-1])

    def load_append(self) -> None:
        """Appends one value to a list."""
        super().load_append()
        _check_length(self.stack[-1])

    def load_setitem(self) -> None:
        """Sets one entry of a dictionary."""
        check_keys(self.stack[-2:-1], nested=self.nested)
        super().load_setitem()
        _check_length(self.stack[-1])

    def load_setitems(self) -> None:
        """Sets the entries of a dictionary that follow the last mark."""
        check_keys(self.stack[::2], nested=self.nested)
        super().load_setitems()
        _check_length(self.stack[-1])

    def load_dict(self) -> None:
        """Makes a dictionary of all that follows the last mark."""
        check_keys(self.stack[::2], nested=self.nested)
        super().load_dict()

    def load_set(self) -> None:
        """Refuses sets."""
        raise RefusedError("an object of type 'set'")

    def load_bytearray(self) -> None:
        """Refuses byte arrays, which are made before their bytes are read."""
        raise RefusedError("an object of type 'bytearray'")

    dispatch[pickle.FRAME[0]] = load_frame
    dispatch[pickle.BINFLOAT[0]] = load_binfloat
    dispatch[pickle.BINUNICODE[0]] = load_binunicode
    dispatch[pickle.BINUNICODE8[0]] = load_binunicode8
    dispatch[pickle.BINBYTES[0]] = load_binbytes
    dispatch[pickle.BINBYTES8[0]] = load_binbytes8
    dispatch[pickle.BINSTRING[0]] = load_binstring
    dispatch[pickle.LONG4[0]] = load_long4
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = dispatch[pickle.ADDITEMS[0]] = dispatch[pickle.FROZENSET[0]] = load_set
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a name. The unpickler calls this for every name in the pickle."""
        full = f"{module}.{name}"
        if full not in self._allowed:
            raise RefusedError(f"the name {checks.shorten(repr(full))}, which plain data does not need")
        return StandIn(full, self._allowed[full])


class _OfficialUnpickler(_PlainUnpickler):
    """Also makes sets, and dictionaries whose keys are tuples; asks a function for the storages of tensors."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_PlainUnpickler.dispatch)
    nested = True
    makes = (set, Ordered)

    def persistent_load(self, pid: Any) -> Any:
        """Returns the storage that the pickle refers to."""
        if self._storage is None:
            raise pickle.UnpicklingError("a persistent name")
        return self._storage(pid)

    def load_empty_set(self) -> None:
        """Makes a set."""
        self.append(set())

    def load_additems(self) -> None:
        """Adds what follows the last mark to a set."""
        check_keys(self.stack, nested=True)
        super().load_additems()
        _check_length(self.stack[-1])

    dispatch[pickle.EMPTY_SET[0]] = load_empty_set
    dispatch[pickle.ADDITEMS[0]] = load_additems


def _check_length(made: Any) -> None:
    if len(made) > LONGEST:
        raise RefusedError(f"a {type(made).__name__.strip('_').lower()} of more than {LONGEST} entries")


def _check_plain(value: Any, where: str, further: tuple[type, ...]) -> None:
    """Raises an error if the data has other types or is nested too deeply. It visits each container once."""
    plain = {*_PLAIN, *further}
    holders = (dict, list, tuple, Ordered)
    level: list[Any] = [[value]]
    seen: set[int] = set()
    for _ in range(_DEEPEST + 1):
        below: dict[int, Any] = {}
        for item in level:
            for part in (item.keys(), item.values()) if isinstance(item, dict) else (item,):
                kinds = set(map(type, part))
                for kind in kinds - plain:
                    if not issubclass(kind, np.number | np.bool_ | np.ndarray):
                        raise RefusedError(f"an object of type {kind.__name__!r}")
                if not kinds.isdisjoint(holders):
                    below |= {id(inner): inner for inner in part if type(inner) in holders}
        level = [below[key] for key in below.keys() - seen]
        if not level:
            return
        seen |= below.keys()
    raise not_as_published(f"data at most {_DEEPEST} levels deep", where, "deeper")
