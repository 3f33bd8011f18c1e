from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ncp_jax import checks, files


def run_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_writes_bytes_and_makes_folders(tmp_path: Path) -> None:
    path = files.atomic_write(tmp_path / "a" / "b" / "c.bin", b"content")
    assert path.read_bytes() == b"content"
    assert os.listdir(path.parent) == ["c.bin"]


def test_replaces_and_takes_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    files.atomic_write(path, b"old")
    files.atomic_write(path, lambda file: file.write(b"new") and None)
    assert path.read_bytes() == b"new"


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = files.atomic_write(tmp_path / "c.bin", b"x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failing_writer_leaves_the_old_content(tmp_path: Path) -> None:
    path = files.atomic_write(tmp_path / "c.bin", b"old")

    def write(file) -> None:
        file.write(b"half of the new")
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        files.atomic_write(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.bin"]


@pytest.mark.parametrize(
    ("call", "number", "words"),
    [
        ("fsync", errno.ENOSPC, "a full disk"),
        ("fsync", errno.EDQUOT, "a full disk"),
        ("replace", errno.EROFS, "a place that cannot be written"),
        ("replace", errno.EACCES, "a place that cannot be written"),
    ],
)
def test_disk_errors_name_place_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    path = files.atomic_write(tmp_path / "c.bin", b"old")

    def refuse(*_arguments) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, call, refuse)
    with pytest.raises(OSError, match=rf"^expected to write .*c\.bin, got {words} \(.*\); buy a larger one$") as caught:
        files.atomic_write(path, b"new", remedy="buy a larger one")
    monkeypatch.undo()
    assert caught.value.errno == number
    assert type(caught.value) is type(OSError(number, ""))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.bin"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"expected to write .*; free some space or choose another folder"):
        files.atomic_write(tmp_path / "file" / "c.bin", b"x")


def test_kill_in_the_middle_of_a_write(tmp_path: Path) -> None:
    path = files.atomic_write(tmp_path / "c.bin", b"old")
    script = """
import sys, time
from ncp_jax import files
def slow(file):
    file.write(b"half"); file.flush(); print("half", flush=True); time.sleep(600)
files.atomic_write(sys.argv[1], slow)
"""
    with run_python(script, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.read_bytes() == b"old"
    assert all(name == "c.bin" or name.endswith(".tmp") for name in os.listdir(tmp_path))
    files.atomic_write(path, b"new")  # what the dead process left behind is in nobody's way
    assert path.read_bytes() == b"new"


def test_lines_are_appended(tmp_path: Path) -> None:
    for line in (b"1\n", b"2\n3\n", b""):
        files.append(tmp_path / "x", line)
    assert (tmp_path / "x").read_bytes() == b"1\n2\n3\n"
    with pytest.raises(FileNotFoundError, match=r"expected to write .*nowhere.*; look elsewhere"):
        files.append(tmp_path / "nowhere" / "x", b"1\n", remedy="look elsewhere")


@pytest.mark.parametrize("limit", [81, 100, 8192, 30000])
def test_an_append_that_is_cut_short_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A real limit: the system writes a part of the lines, then refuses the rest."""
    path = tmp_path / "x.jsonl"
    script = """
import pathlib, resource, sys
from ncp_jax.files import append
path = pathlib.Path(sys.argv[1])
append(path, b'{"a":1}\\n' * 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    append(path, b'{"b":2}\\n' * 5000)
except OSError as error:
    print(error.errno, error)
"""
    with run_python(script, path, limit) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    assert out.startswith(f"{errno.EFBIG} expected to write ")
    assert path.read_bytes() == b'{"a":1}\n' * 10


def test_an_interrupted_append_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.append(tmp_path / "x", b"1\n")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.append(tmp_path / "x", b"2\n")
    assert (tmp_path / "x").read_bytes() == b"1\n"


def test_concurrent_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=files.atomic_write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["c.bin"]


def test_lock_excludes_other_processes(tmp_path: Path) -> None:
    script = """
import sys, time
from ncp_jax import files
for i in range(5):
    with files.lock(sys.argv[1]) as held:
        assert held
        with open(sys.argv[2], "a") as log:
            log.write("in "); log.flush(); time.sleep(0.02); log.write("out "); log.flush()
"""
    processes = [run_python(script, tmp_path / "sub" / "lock", tmp_path / "log") for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    assert (tmp_path / "log").read_text() == "in out " * 15


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = """
import sys, time
from ncp_jax import files
with files.lock(sys.argv[1]):
    print("held", flush=True); time.sleep(600)
"""
    with run_python(script, tmp_path / "lock") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with files.lock(tmp_path / "lock") as held:
        assert held


@pytest.mark.parametrize("name", ["lock", "."], ids=["file", "folder"])
def test_a_lock_that_is_not_waited_for(tmp_path: Path, name: str) -> None:
    with files.lock(tmp_path / name) as held:
        assert held
        with pytest.raises(BlockingIOError), files.lock(tmp_path / name, wait=False):
            pytest.fail("two hold one lock")
    with files.lock(tmp_path / name, wait=False) as held:
        assert held
    assert [path.name for path in tmp_path.iterdir()] == ([] if name == "." else [name])


def test_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyError), files.lock(tmp_path / "lock"):
        raise KeyError
    with files.lock(tmp_path / "lock") as held:
        assert held


def test_without_locks_the_block_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with files.lock(tmp_path / "file" / "lock") as held:
        assert not held
    monkeypatch.setattr(files, "fcntl", None)
    with files.lock(tmp_path / "lock") as held:
        assert not held


def test_csv_quotes_what_needs_it(tmp_path: Path) -> None:
    path = files.write_csv(tmp_path / "new" / "x.csv", ["code", "value"], [["1, 2", 0.5], ['say "a"', None]])
    assert path.read_bytes() == b'code,value\n"1, 2",0.5\n"say ""a""",\n'


def test_paths_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert files.user_path("~/a") == Path("/home/me/a")
    assert files.user_path("a/~b") == Path("a/~b")
    with pytest.raises(
        checks.UsageError, match=r"expected a home folder, got ~nobody-at-all/a .*; write the whole path"
    ):
        files.user_path("~nobody-at-all/a")
    with pytest.raises(checks.UsageError, match=r"expected the path of a file or folder, got .*; leave the NUL"):
        files.user_path("a\0b")


def test_room_on_the_disk(tmp_path: Path) -> None:
    files.check_room(tmp_path, 1000)
    with pytest.raises(OSError, match=r"expected to write .*, got a full disk .*; free some space and run again"):
        files.check_room(tmp_path, 2**62)
    assert os.listdir(tmp_path) == []
