"""The converter against files that are damaged, contradictory or hostile."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime
import functools
import io
import json
import os
import pickle
import pickletools
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax.benchmarks.catalogue import RECIPES
from ncp_jax.benchmarks.convert import convert
from ncp_jax.benchmarks.pickles import load_pickle
from ncp_jax.checks import DataError

MR = RECIPES["nas-bench-mr/seg"]
CELLS = RECIPES["nas-bench-201/imagenet16-120-ncp"]
MICRO = RECIPES["transnas-micro/room_layout"]


class Gadget:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        [{"a": 1, "b": [1.5, -2, True, None]}, ("x", b"bytes \xff", 2**80)],
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=">i8").reshape(3, 4)),
        np.array([True, False]),
        np.array(7, np.uint8),
        np.float64(1.25),
        np.int32(-3),
    ],
    ids=repr,
)
def test_plain_data_comes_back(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    if protocol == 5 and isinstance(value, np.ndarray):
        # Protocol 5 rebuilds arrays another way, which no upstream file uses.
        with pytest.raises(DataError, match=r"numpy\._?core\.numeric\._frombuffer"):
            load_pickle(content, "file")
        return
    loaded = load_pickle(content, "file")
    if isinstance(value, np.ndarray | np.generic):
        assert loaded.dtype == value.dtype.newbyteorder("=")  # NumPy unpickles to the machine's byte order
        np.testing.assert_array_equal(loaded, value)
    else:
        assert loaded == value


def test_names_of_numpy_1_and_2_are_known() -> None:
    content = pickle.dumps(np.arange(3), protocol=2)
    old = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    new = content.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    assert old != new
    for one in (old, new):
        np.testing.assert_array_equal(load_pickle(one, "file"), np.arange(3))


MARKER = "ncp_jax_gadget_ran"


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Gadget(os.system, f"touch {MARKER}"), r"'posix\.system'|'nt\.system'"),
        (Gadget(eval, f"open({MARKER!r}, 'w')"), r"'(builtins|__builtin__)\.eval'"),
        (Gadget(exec, f"open({MARKER!r}, 'w')"), r"'(builtins|__builtin__)\.exec'"),
        (Gadget(getattr, "x", "upper"), r"'(builtins|__builtin__)\.getattr'"),
        (Gadget(open, MARKER, "w"), r"'_?io\.open'"),
        (Gadget(subprocess.Popen, ["touch", MARKER]), r"'(subprocess|commands)\.Popen'"),
        (Gadget(functools.partial(print), "x"), r"'functools\.partial'"),
        (Gadget(np.load, MARKER), r"'numpy\.load'"),
        (Gadget(np.ndarray, (2,)), r"a call of numpy\.ndarray|numpy\.ndarray"),
        (collections.OrderedDict(a=1), r"'collections\.OrderedDict'"),
        (datetime.date(2020, 1, 1), r"'datetime\.date'"),
        (Path("x"), r"'pathlib\."),
        (np.random.default_rng(0), r"'numpy\.random"),
        (np.ma.masked_array([1.0]), r"'numpy\.ma"),
        (np.array([None, "x"], dtype=object), r"an array of type 'O8'"),
        (np.array(["text"]), r"an array of type 'U4'"),
        (np.zeros(2, dtype=[("a", "i4")]), r"an array of type 'V4'"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"an array of type 'M8'"),
        (np.float64, r"'numpy\.float64'"),
        (np.dtype("f4"), r"an object of type '_DType'"),
        (np.ndarray, r"an object of type 'StandIn'"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_everything_else_is_refused_by_name(
    value: Any, name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps([{"top1": value}], protocol=protocol)
    with pytest.raises(DataError, match=name) as caught:
        load_pickle(content, "the file")
    assert "in the file" in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # nested names: builtins.str.join
        (b"\x80\x04\x8c\x08builtins\x8c\x08str.join\x93.", r"'builtins\.str\.join'"),
        # the old opcode that instantiates a class
        (b"(S'id'\nios\nsystem\n.", r"'os\.system'"),
        # an object from outside the pickle
        (b"Pid\n.", "persistent"),
        # a huge array of no bytes
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(L99999999999L\ntcnumpy\ndtype\n"
            b"(S'f8'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nc_codecs\nencode\n(V\nS'latin1'\ntRtb.",
            "bytes do not fill its shape",
        ),
        # a huge early array
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L9999999999L\ntS'b'\ntR.", "early shape"),
        # another class of arrays
        (b"cnumpy.core.multiarray\n_reconstruct\n(I1\n(I0\ntS'b'\ntR.", "another class"),
        # state set on an allowed name
        (b"cnumpy\nndarray\n}S'x'\nI1\nsb.", "an attempt to change numpy.ndarray"),
        # a codec other than latin1
        (b"c_codecs\nencode\n(Vx\nS'rot13'\ntR.", "_codecs.encode to 'rot13'"),
        # sets, which no file needs
        (pickle.dumps({1, 2}, protocol=4), "'set'"),
        (pickle.dumps(bytearray(b"x"), protocol=5), "'bytearray'"),
        (b"\x8f(K\x01\x90.", "'set'"),
        # what asks for memory that is not there: 8 GB of bytes, an integer of 2 GB
        (b"\x96\x00\x00\x00\x00\x02\x00\x00\x00.", "'bytearray'"),
        (b"\x8b\xff\xff\xff\x7f.", "expected a whole pickle in file"),
        # keys that take 2**60 steps to hash, or are deeper than the stack
        (b"})" + b"2\x86" * 60 + b"Ns.", "a key of type 'tuple'"),
        (b"()" + b"\x85" * 300_000 + b"Nd.", "a key of type 'tuple'"),
        (b"}()" + b"\x85" * 300_000 + b"Nu.", "a key of type 'tuple'"),
        # 10**12 lists, in the place of the name of a type
        (
            b"cnumpy\ndtype\n](]" + b"(2222222222l" * 12 + b"\x85R.",
            "EOFError|UnpicklingError|an array of type|IndexError",
        ),
        (b"", "EOFError"),
        (b"not a pickle", "expected a whole pickle in file"),
        (b"\x80\xff.", "unsupported pickle protocol"),
        (b"]\x94" * 3 + b"e.", "expected a whole pickle"),
    ],
)
def test_hand_made_attacks(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_pickle(content, "file")


def test_names_registered_as_extensions_are_refused() -> None:
    copyreg.add_extension("os", "system", 0xF0)
    try:
        with pytest.raises(DataError, match=r"'os\.system'"):
            load_pickle(b"\x80\x02\x82\xf0.", "file")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


def test_deep_and_circular_and_large_data() -> None:
    with pytest.raises(DataError, match="at most 16 levels deep"):
        load_pickle(b"]" * 1000 + b"a" * 999 + b".", "file")
    with pytest.raises(DataError, match="at most 16 levels deep"):
        load_pickle(b"(" * 5000 + b"l" * 1 + b"l" * 4999 + b".", "file")
    bomb: list[Any] = [0]
    for _ in range(12):
        bomb = [bomb] * 10  # 10**12 leaves in a few hundred bytes
    assert load_pickle(pickle.dumps(bomb), "file")
    circle: list[Any] = []
    circle.append(circle)
    assert load_pickle(pickle.dumps(circle), "file")
    with pytest.raises(DataError, match="expected at most 67108864 bytes in file"):
        load_pickle(bytes(64 * 2**20 + 1), "file")


def test_a_pickle_cut_anywhere_is_refused() -> None:
    content = pickle.dumps([{"a": 1.5, "b": np.arange(4.0)}, "text"], protocol=4)
    for length in range(len(content)):
        with pytest.raises(DataError, match="in file"):
            load_pickle(content[:length], "file")


def test_random_damage_never_escapes() -> None:
    content = pickle.dumps([{"a": 1.5, "b": [1, 2, 3], "c": np.arange(4.0)}], protocol=2)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        byte = int(random.integers(256))
        if byte == ord("r"):
            continue  # the opcode LONG_BINPUT may make the unpickler reserve 64 GB: the hash check stands before that
        damaged[random.integers(len(content))] = byte
        try:
            load_pickle(bytes(damaged), "file")
        except DataError:
            refused += 1
    assert refused > 100


def mr_rows(count: int = 4) -> list[dict[str, Any]]:
    """Rows like upstream's; every architecture another."""
    rows = []
    for i in range(count):
        code = [64, 8 * (i + 1), 2, 1, 64, 2, 1, 2, 64, 8, 2, 1, 1, 1, 8, 8, 8, 2, 1, 1, 1, 1, 8, 8, 8, 8, 16]
        rows.append({"mIoU": 70.0 + i, "mAcc": 80.0, "aAcc": 90.0, "flops": 1.5, "params": 2, "embedding": code})
    return rows


def converted_mr(rows: Any, count: int = 4) -> Any:
    return convert(dataclasses.replace(MR, rows=count), pickle.dumps(rows), "0" * 64)


def test_a_small_file_of_the_right_form_converts() -> None:
    arrays = converted_mr(mr_rows()[::-1])
    assert arrays.codes.shape == (4, 27)
    assert arrays.column("mIoU").tolist() == [70.0, 71.0, 72.0, 73.0]  # ordered by code, not as in the file
    assert arrays.hashes == ((MR.file, "0" * 64),)


def changed(**fields: Any) -> list[dict[str, Any]]:
    rows = mr_rows()
    rows[2] = {**rows[2], **fields}
    return rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"a": 1}, "expected a list of architectures in ncp/seg/trainval.pkl, got dict; fetch it again: ncp-jax data"),
        ([], "a list of architectures"),
        ([1, 2, 3, 4], "a list of dictionaries"),
        (mr_rows(3), "expected 4 architectures in .*, got 3"),
        ([*mr_rows(3), mr_rows()[0]], "expected 4 different architectures .* got 3"),
        ([*mr_rows(3), {**mr_rows()[0], "mIoU": 1.0}], "one set of values per architecture .* got other values"),
        (changed(mIoU=float("nan")), "a finite number as 'mIoU' of every architecture .* got nan"),
        (changed(mIoU=float("-inf")), "a finite number as 'mIoU'"),
        (changed(mIoU=10**400), "a finite number as 'mIoU'"),
        (changed(mIoU="70"), "a finite number as 'mIoU'"),
        (changed(mIoU=True), "a finite number as 'mIoU'"),
        (changed(flops=None), "a finite number as 'flops'"),
        ([{k: v for k, v in row.items() if k != "params"} for row in mr_rows()], "as 'params' .* got None"),
        (changed(embedding=None), "a list of small integers as 'embedding'"),
        (changed(embedding=[64.0] * 27), "a list of small integers as 'embedding'"),
        (changed(embedding=[10**30] * 27), "a list of small integers as 'embedding'"),
        (changed(embedding=[64] * 26), r"codes of one length .* got lengths \[26, 27\]"),
        (changed(embedding=[64] * 27), r"expected legal architectures in ncp/seg/trainval.pkl, got .*position 2"),
        ([{**row, "embedding": row["embedding"][:20]} for row in mr_rows()], "expected legal architectures"),
    ],
)
def test_wrong_content_of_a_pickle(rows: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        converted_mr(rows)


@pytest.mark.parametrize(
    "embedding",
    [
        np.zeros(30, np.float32),
        np.full(30, 0.2, np.float32),
        np.tile([1, 1, 0, 0, 0], 6).astype(np.float32),
        np.tile([0, 0, 0, 0, 2], 6),
        np.tile([1.0, 0, 0, 0, 0], 5),
        np.tile([np.nan, 0, 0, 0, 1], 6),
        [1.0] * 30,
    ],
)
def test_embeddings_that_are_not_one_hot(embedding: Any) -> None:
    rows = [{"embedding": embedding, "Acc": 1.0, "Flops": 1.0, "Params": 1.0}]
    with pytest.raises(DataError, match=r"in ncp/nas-bench-201/trainval\.pkl, got"):
        convert(dataclasses.replace(CELLS, rows=1), pickle.dumps(rows, protocol=4), "")


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def micro_rows(count: int = 4, **changes: Any) -> list[dict[str, Any]]:
    return [{"arch": f"(0, 1, 2, 3, 0, {i})", "val_accuracy": -0.5 - i, **changes} for i in range(count)]


def converted_micro(content: bytes, count: int = 4) -> Any:
    return convert(dataclasses.replace(MICRO, rows=count, members=("zen/a.json", "zen/b.json")), content, "")


def micro_archive(a: Any, b: Any, **more: bytes) -> bytes:
    return archive({"zen/a.json": json.dumps(a).encode(), "zen/b.json": json.dumps(b).encode(), **more})


def test_a_small_archive_of_the_right_form_converts() -> None:
    rows = micro_rows()
    content = micro_archive(rows[2:], rows[:2], **{"../outside.json": b"[", "zen/c.json": b"not read"})
    arrays = converted_micro(content)
    assert arrays.codes[:, -1].tolist() == [0, 1, 2, 3]
    assert arrays.column("l2_loss").tolist() == [0.5, 1.5, 2.5, 3.5]  # upstream stores the negated loss


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK not a zip", "a whole zip archive of JSON lists in naslib/all_benchmarks_zen.zip, got BadZipFile"),
        (archive({"zen/a.json": b"[]"}), "KeyError: .*zen/b.json"),
        (archive({"zen/a.json": b"[1,", "zen/b.json": b"[]"}), "JSONDecodeError"),
        (archive({"zen/a.json": b"\xff\xfe\x00", "zen/b.json": b"[]"}), "Unicode"),
        (archive({"zen/a.json": b"[" * 100_000, "zen/b.json": b"[]"}), "RecursionError"),
        (archive({"zen/a.json": bytes(64 * 2**20 + 1), "zen/b.json": b"[]"}), "at most 67108864 bytes in zen/a.json"),
        (micro_archive({}, []), "a list in zen/a.json in .*, got dict"),
        (micro_archive([1, 2], [3, 4]), "a list of dictionaries"),
        (micro_archive(micro_rows(3), []), "expected 4 architectures .* got 3"),
        (micro_archive(micro_rows(2), micro_rows(2)), "expected 4 different architectures .* got 2"),
        (micro_archive(micro_rows(val_accuracy=float("nan")), []), "a finite number as 'val_accuracy'"),
        (micro_archive(micro_rows(arch="__import__('os')"), []), "architectures like"),
        (micro_archive(micro_rows(arch=[1, 2]), []), "architectures like"),
        (micro_archive(micro_rows(arch="(0, 1, 2, 3, 0, 9)"), []), "expected legal architectures"),
        (micro_archive([*micro_rows(3), {"arch": "(1, 2)", "val_accuracy": 1.0}], []), "got lengths 2 and 6"),
    ],
)
def test_wrong_content_of_an_archive(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        converted_micro(content)


def test_a_damaged_member_is_noticed() -> None:
    content = bytearray(micro_archive(micro_rows(), []))
    content[60:70] = bytes(10)
    with pytest.raises(DataError, match="a whole zip archive"):
        converted_micro(bytes(content))
    stored = bytearray(
        archive({"zen/a.json": json.dumps(micro_rows()).encode(), "zen/b.json": b"[]"}, zipfile.ZIP_STORED)
    )
    stored[stored.index(b"0.5")] ^= 1
    with pytest.raises(DataError, match="CRC"):
        converted_micro(bytes(stored))


def test_real_pickles_hold_no_other_names(mirror: Path) -> None:
    """An independent reading of the opcodes: what the real files ask for is what the converter allows."""
    for path in sorted(mirror.glob("ncp/*/trainval.pkl"))[-3:]:
        strings: list[str] = []
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            assert opcode.name not in ("GLOBAL", "INST", "OBJ", "NEWOBJ", "EXT1", "PERSID", "BINPERSID")
            if opcode.name == "STACK_GLOBAL":
                assert strings[-1] in ("_reconstruct", "ndarray", "dtype")
            elif isinstance(argument, str):
                strings.append(argument)


def test_any_index_of_the_memo_takes_no_memory() -> None:
    """The unpickler in C would make room for 2**31 objects."""
    assert load_pickle(b"]r\xff\xff\xff\x7f.", "file") == []


def test_values_that_are_endless_are_refused_briefly() -> None:
    endless: list[Any] = [0]
    for _ in range(12):
        endless = [endless] * 10
    for value in (endless, 1 << 100_000, "x" * 100_000):
        row = {"embedding": [8] * 27, **{column.field: value for column in MR.columns}}
        with pytest.raises(DataError, match="expected a finite number") as caught:
            convert(MR, pickle.dumps([row]), "hash")
        assert len(str(caught.value)) < 500
