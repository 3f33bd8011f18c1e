"""Files of ``torch.save`` are read without PyTorch, which is the oracle here; hostile ones are refused soon."""

from __future__ import annotations

import bz2
import collections
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax.benchmarks.torch_files import read_torch
from ncp_jax.checks import DataError

from .torch_containers import archive, sequence

TESTS = Path(__file__).resolve().parent.parent


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_torch(path)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
def test_values_are_those_of_torch(zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "plain": base,
        "transposed": base.t(),
        "a part": base[1:3, 2:5],
        "half": torch.ones(3).half(),
        "bfloat16": torch.tensor([1.5, 2]).bfloat16(),
        "integers": torch.tensor([1, -2]),
        "booleans": torch.tensor([True, False]),
        "a number": torch.tensor(3.0),
        "none": torch.zeros(0, 3),
        "complex": torch.tensor([1 + 2j]),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
    }
    others = {
        "list": [1, 2.5, None, True, "x", (1, 2), *np.linspace(0, 1, 100).tolist()],
        "ordered": collections.OrderedDict(a=1),
        "scalar": np.float64(2.5),
        "set": {1, 2},
        "size": torch.Size([1, 2]),
        ("a", 1): 3,
    }
    weights = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    path = tmp_path / "file.pth"
    saved = {**tensors, **others, "weights": weights, "array": np.arange(3)}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = read_torch(path)
    assert list(found) == list(saved)
    for name, tensor in {**tensors, **weights}.items():
        array = found["weights"][name] if name in weights else found[name]
        assert str(array.dtype) == str(tensor.dtype).removeprefix("torch.")
        wide = tensor.detach().to(torch.complex128).numpy()
        np.testing.assert_array_equal(np.asarray(array, np.complex128), wide)
    assert {name: found[name] for name in others} == others
    np.testing.assert_array_equal(found["array"], np.arange(3))
    content = path.read_bytes()
    for size in range(0, len(content), 101):
        refused(tmp_path / "cut", content[:size])


def test_published_files_are_read_as_torch_reads_them(mirror: Path) -> None:
    torch = pytest.importorskip("torch")
    for name in ("fbnet/arch.pt", "nasbench201/latency/raspi4.pt"):
        assert read_torch(mirror / "help" / name) == torch.load(mirror / "help" / name, weights_only=False)


class Call:
    """Pickles as a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_other_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="expected a file at"):
        read_torch(path)
    for content, words in (
        (b"", "an empty file"),
        (b"BZh91", "a bz2 stream"),
        (b"<!DOCTYPE html>", "a page of HTML or XML: a download that failed"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"SQLite format 3\0", "an SQLite database"),
        (pickle.dumps([1]), r"a pickle of \[1\], and no file of torch.save"),
        (archive([Call()]), "the name 'posix.system'"),
        (sequence([Call()]), "the name 'posix.system'"),
        (archive(1, method=zipfile.ZIP_DEFLATED), "'archive/data.pkl' is compressed, which torch.save does not do"),
        (archive(1)[:-30], "the file is truncated"),
        (archive([1.5] * 100).replace(b"G?\xf8", b"G?\xf9", 1), "another checksum"),
        (archive(0, raw=b"(X\x07\x00\x00\x00storagetQ."), "a persistent name that is no storage"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_torch(path)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def _tensor(arguments: bytes) -> bytes:
    """A pickle of one tensor with four numbers, of given offset, shape and strides."""
    storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + storage + arguments + b"\x89NtR."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (b"K\x01K\x04\x85K\x01\x85", "beyond its numbers"),
        (b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85", "beyond its numbers"),
        (b"K\x00K\x02\x85J\xff\xff\xff\xff\x85", "unknown form"),
        (b"K\x00K\x02\x85)", "unknown form"),
        (b"NK\x02\x85K\x01\x85", "unknown form"),
    ],
)
def test_tensors_stay_within_their_numbers(arguments: bytes, words: str, tmp_path: Path) -> None:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", _tensor(arguments))
        file.writestr("archive/data/0", np.arange(4, dtype="f4").tobytes())
    assert words in refused(tmp_path / "file", buffer.getvalue())


CHILD = """
import json, resource, sys, time
from pathlib import Path
from benchmarks.test_torch_files import HOSTILE
from ncp_jax.benchmarks.official.files import read_pickled
from ncp_jax.benchmarks.torch_files import read_torch
from ncp_jax.checks import DataError

path = Path(sys.argv[1])
contents = {name: make() for name, make in HOSTILE.items()}
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 500 * 2**20,) * 2)
for name, content in contents.items():
    path.write_bytes(content)
    began, text = time.process_time(), "read"
    try:
        (read_pickled if name.startswith("bz2") else read_torch)(path)
    except DataError as error:
        text = ""
    except BaseException as error:
        text = repr(error)
    print(json.dumps([name, text, time.process_time() - began]), flush=True)
"""
HOSTILE = {
    "zip bomb": lambda: archive(0, raw=bytes(100 << 20), method=zipfile.ZIP_DEFLATED),
    "10**9 items in one list": lambda: archive(0, raw=b"\x80\x02](" + b"K\x00" * (8 << 20) + b"e."),
    "many items in a batch": lambda: archive(0, raw=b"\x80\x02]" + (b"(" + b"N" * 1000 + b"e") * 4_000 + b"."),
    "many empty lists": lambda: archive(0, raw=b"\x80\x02" + b"]" * (4 << 20)),
    "many tuples": lambda: archive(0, raw=b"\x80\x02N" + b"\x85" * (2 << 20) + b"."),
    "many marks": lambda: archive(0, raw=b"\x80\x02" + b"(" * (4 << 20)),
    "many notes": lambda: archive(0, raw=b"\x80\x04N" + b"\x94" * (2 << 20) + b"."),
    "bytes of 2**40": lambda: archive(0, raw=b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00."),
    "equal hashes": lambda: archive(0, raw=pickle.dumps({(2**61 - 1) * i: 0 for i in range(1, 3)}, 2)),
    "tensor of 2**40": lambda: sequence(
        0,
        raw=b"\x80\x02((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        b"\x8a\x06\x00\x00\x00\x00\x00\x01tQt.",
    ),
    "bz2 of 200 MB of zeros": lambda: bz2.compress(bytes(200 << 20)),
    "bz2 of many items": lambda: bz2.compress(b"\x80\x04](" + b"N" * (7 << 20) + b"e."),
    "bz2 of many batches": lambda: bz2.compress(b"\x80\x04]" + (b"(" + b"N" * 1000 + b"e") * 7000 + b"."),
    "bz2 of a name": lambda: bz2.compress(pickle.dumps([Call()])),
    "no end": lambda: sequence(0, raw=b"\x80\x02" + b"K\x00" * (2 << 20)),
}


def test_hostile_files_are_refused_in_a_second_and_500_mb(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *(path for path in sys.path if path)])}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row[0] for row in found] == list(HOSTILE), done.stderr[-1000:]
    assert [row for row in found if row[1] or row[2] > 1] == []
