"""Downloads from a server on this machine's loopback that misbehaves on purpose, and copies from mirrors."""

from __future__ import annotations

import dataclasses
import http.server
import pickle
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import files, get_space
from ncp_jax.benchmarks import all_sources, fetch, fetch_tables, load_table, sources, store
from ncp_jax.checks import DataError, UsageError

NAME = "nas-bench-mr/seg"
KEY = "ncp/seg/trainval.pkl"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next of the server's instructions, and rightly after the last."""

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(self.path)
        instruction = server.instructions.pop(0) if server.instructions else "right"
        content = (server.folder / self.path.lstrip("/")).read_bytes()
        if instruction == "error":
            self.send_error(503)
            return
        if instruction == "other":
            content = b"<html>please log in</html>"
        self.send_response(200)
        if instruction != "cut without a length":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if instruction.startswith("cut") else content)

    def log_message(self, *_arguments: object) -> None:
        """Says nothing on the screen."""


@pytest.fixture
def server(mirror: Path, empty_cache: Path, no_mirror: None, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A server of the upstream files; the sources' addresses lead to it, the cache is empty, tries do not wait."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.folder, running.instructions, running.requests = mirror, [], []
        base = f"http://127.0.0.1:{running.server_address[1]}/"
        local = {key: dataclasses.replace(s, address=base + key) for key, s in all_sources().items()}
        monkeypatch.setattr(fetch, "select_sources", lambda names: tuple(local[s.key] for s in select(names)))
        monkeypatch.setattr(fetch, "_WAITS", (0.0, 0.0))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        select = sources.select_sources
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def stored(cache: Path) -> list[str]:
    """The upstream files in the cache, and whatever else lies there but locks."""
    found = [p for p in (cache / "raw").rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    return sorted(p.relative_to(cache / "raw").as_posix() for p in found)


def test_download_convert_and_load(server, empty_cache: Path, mirror: Path) -> None:
    (done,) = fetch_tables([NAME])
    assert (done.file, done.action) == (KEY, "downloaded")
    assert done.path.read_bytes() == (mirror / KEY).read_bytes()
    assert stored(empty_cache) == [KEY]
    assert (empty_cache / "tables" / "nas-bench-mr" / "seg.npz").is_file()
    assert len(load_table(NAME)) == 2507
    assert [again.action for again in fetch_tables(NAME)] == ["present"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("failure", ["cut", "cut without a length", "error", "other"])
def test_a_failed_try_is_repeated(failure: str, server, empty_cache: Path, mirror: Path) -> None:
    server.instructions[:] = [failure]
    (done,) = fetch_tables([NAME], progress=False)
    assert done.path.read_bytes() == (mirror / KEY).read_bytes()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (
            "error",
            ConnectionError,
            r"expected to download http://127.*, got after 3 tries HTTPError: 503 .*--mirror DIR",
        ),
        (
            "cut",
            ConnectionError,
            r"got after 3 tries .*; check the network and run the command again, or .*--mirror DIR",
        ),
        ("cut without a length", DataError, r"\(1145600 bytes\), got SHA-256 .* \(572800 bytes\) .*--mirror DIR"),
        ("other", DataError, r"got SHA-256 .* \(26 bytes\) at http://127.*the source may have changed"),
    ],
)
def test_three_failures_are_an_error(failure: str, error: type, words: str, server, empty_cache: Path) -> None:
    server.instructions[:] = [failure] * 3
    with pytest.raises(error, match=words):
        fetch_tables([NAME], progress=False)
    assert len(server.requests) == 3
    assert stored(empty_cache) == []
    assert [done.action for done in fetch_tables([NAME], progress=False)] == ["downloaded"]  # and later it works


def test_nobody_listens(server, empty_cache: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"after 3 tries ConnectionError"):
        fetch_tables([NAME], progress=False)
    assert stored(empty_cache) == []


def test_an_interruption_keeps_what_was_whole(server, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = fetch._request

    def interrupted(source, progress):
        if source.key == "ncp/video/trainval.pkl":
            raise KeyboardInterrupt
        return request(source, progress)

    monkeypatch.setattr(fetch, "_request", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_tables(["seg", "video"], progress=False)
    assert stored(empty_cache) == [KEY]
    monkeypatch.setattr(fetch, "_request", request)
    assert [done.action for done in fetch_tables(["seg", "video"], progress=False)] == ["present", "downloaded"]


def test_an_altered_cached_file_is_replaced(server, empty_cache: Path, mirror: Path) -> None:
    path = empty_cache / "raw" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"altered")
    (done,) = fetch_tables([NAME], progress=False)
    assert done.action == "downloaded"
    assert path.read_bytes() == (mirror / KEY).read_bytes()


def test_a_full_disk_leaves_nothing_and_says_so(server, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"got a full disk .*; free some space, or set NCP_JAX_DATA to a folder"):
            fetch_tables([NAME], progress=False)
    assert stored(empty_cache) == []
    assert len(server.requests) == 1  # the disk is no reason to download again


def test_a_cache_that_cannot_be_made(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NCP_JAX_DATA", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"expected to write .*; free some space, or set NCP_JAX_DATA to a folder"):
        fetch_tables([NAME], progress=False)


def test_a_mirror_instead_of_the_network(server, empty_cache: Path, mirror: Path) -> None:
    done = fetch_tables(["transnas-macro", "ncp/search_list.txt"], mirror=mirror)
    assert [(d.file, d.action) for d in done] == [
        ("ncp/search_list.txt", "copied"),
        ("naslib/tnb101_macro_zen.zip", "copied"),
        ("naslib/zc_transbench101_macro.json", "copied"),
    ]
    assert stored(empty_cache) == sorted(d.file for d in done)
    assert server.requests == []
    assert len(list((empty_cache / "tables" / "transnas-macro").glob("*.npz"))) == 7


def test_the_mirror_of_the_environment(
    server, empty_cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCP_JAX_MIRROR", str(mirror))
    assert [done.action for done in fetch_tables(["seg"])] == ["copied"]
    assert server.requests == []


def test_faulty_mirrors(server, empty_cache: Path, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--mirror=.*nowhere, got none; correct --mirror or leave it out"):
        fetch_tables(["seg"], mirror=tmp_path / "nowhere")
    copy = tmp_path / "copy"
    (copy / "ncp" / "seg").mkdir(parents=True)
    with pytest.raises(
        FileNotFoundError, match=r"expected ncp/seg/trainval.pkl in the mirror at .*; complete the mirror"
    ):
        fetch_tables(["seg"], mirror=copy)
    shutil.copy(mirror / "ncp" / "video" / "trainval.pkl", copy / KEY)
    video = all_sources()["ncp/video/trainval.pkl"].sha256
    words = rf"SHA-256 {all_sources()[KEY].sha256} .*got SHA-256 {video} .*; replace the mirror's file .*http"
    with pytest.raises(DataError, match=words):
        fetch_tables(["seg"], mirror=copy)
    assert stored(empty_cache) == []


def test_unknown_names_reach_no_network(server) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        fetch_tables(["nas-bench-mr/segg"])
    assert server.requests == []


def test_the_ninth_setting_is_known_by_its_blob(
    empty_cache: Path, no_mirror: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file of our own in the published form: the real one was not here."""
    key = "ncp/3ddet/trainval.pkl"
    source = all_sources()[key]
    rows = [
        {"embedding": code, "moderate": 60.5 + place, "flops": 1.5, "params": 2.5, "input_channel": [8, 8]}
        for place, code in enumerate(get_space("nas-bench-mr").from_index(np.arange(3)).tolist())
    ]
    content = pickle.dumps(rows)
    path = tmp_path / "mirror" / key
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "_WAITS", ())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.folder, running.instructions, running.requests = tmp_path / "mirror", [], []
        address = f"http://127.0.0.1:{running.server_address[1]}/{key}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            monkeypatch.setitem(all_sources(), key, dataclasses.replace(source, address=address))
            with pytest.raises(DataError, match=f"expected {key} with blob git:f08f87a6.*, got blob git:"):
                fetch_tables(["3ddet"], progress=False)
            blob = subprocess.run(
                ["git", "hash-object", path], capture_output=True, text=True, check=True
            ).stdout.strip()
            monkeypatch.setitem(all_sources(), key, dataclasses.replace(source, address=address, git_blob=blob))
            assert [done.action for done in fetch_tables(["3ddet"], progress=False)] == ["downloaded"]
            assert [done.action for done in fetch_tables(["nas-bench-mr/3ddet"], progress=False)] == ["present"]
        finally:
            running.shutdown()
            thread.join()
    table = load_table("3ddet")
    assert [(m.name, m.direction, m.split, m.unit) for m in table.metrics] == [
        ("moderate", "maximize", "validation", "%"),
        ("flops", "minimize", "", "GMAC"),
        ("params", "minimize", "", "M"),
    ]
    assert table.measured("moderate").tolist() == [60.5, 61.5, 62.5]
    assert dict(table.hashes)[key] == f"git:{blob}"
    assert load_table("nas-bench-mr/3ddet").measured("flops").tolist() == [1.5] * 3  # from the converted copy


def test_a_mirror_may_lack_the_ninth_setting(mirror: Path, empty_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "ncp").mkdir()
    for entry in (mirror / "ncp").iterdir():
        if entry.name != "3ddet":
            (tmp_path / "ncp" / entry.name).symlink_to(entry)
    done = {result.file: result.action for result in fetch_tables(["nas-bench-mr"], mirror=tmp_path)}
    assert done.pop("ncp/3ddet/trainval.pkl") == "absent"
    assert set(done.values()) == {"copied"}
    with pytest.raises(FileNotFoundError, match=r"expected ncp/3ddet/trainval\.pkl in the mirror"):
        fetch_tables(["3ddet"], mirror=tmp_path)
    state = {check.file: check for check in store.verify_files(("nas-bench-mr",))}["ncp/3ddet/trainval.pkl"]
    assert store.is_spared(state, ("nas-bench-mr",))
    assert not store.is_spared(state, ("3ddet",))
