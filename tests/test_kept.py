"""Compiled programs outlive a session of the tests: whole ones, for a month."""

from __future__ import annotations

import os
import time
from pathlib import Path

from . import kept


def test_whole_new_programs_are_kept_and_old_ones_go(tmp_path: Path) -> None:
    from jax._src.compilation_cache import compress_executable

    store, first, second = (tmp_path / name for name in ("store", "first", "second"))
    store.mkdir()
    kept.bring(store, first)
    whole = compress_executable(os.urandom(5000))
    (first / "whole-cache").write_bytes(whole)
    (first / "killed-cache").write_bytes(whole[:3000])
    kept.keep(first, store)
    assert [path.name for path in store.iterdir()] == ["whole-cache"]
    kept.bring(store, second)
    assert (second / "whole-cache").read_bytes() == whole
    month = time.time() - 31 * 86400
    os.utime(store / "whole-cache", (month, month))
    kept.keep(second, store)
    assert list(store.iterdir()) == []
    assert (second / "whole-cache").read_bytes() == whole
