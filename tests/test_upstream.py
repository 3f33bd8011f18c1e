"""Where the tests find the published tables, and what happens where they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import upstream


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)
    monkeypatch.delenv(upstream.MISSING, raising=False)
    monkeypatch.setattr(upstream, "IN_CI", False)


def test_a_mirror_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCP_JAX_MIRROR", str(tmp_path))
    assert upstream.require() == tmp_path
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("nothing is fetched"))
    upstream.fetch(None)


def test_a_mirror_that_is_not_there_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCP_JAX_MIRROR", str(tmp_path / "no"))
    with pytest.raises(pytest.fail.Exception, match="needs the published tables, and there is no folder at"):
        upstream.require()


def test_without_tables_a_test_is_skipped_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="needs the published tables, and none are here: run 'ncp-jax data"):
        upstream.require()
    monkeypatch.setattr(upstream, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="needs the published tables"):
        upstream.require()


def test_tables_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv(upstream.MISSING, "")  # put back at the end
    monkeypatch.delenv(upstream.MISSING)
    upstream.fetch(str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="and they could not be fetched: run"):
        upstream.require()


def test_the_cache_of_the_user_is_filled_and_used(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"import os; os.environ['NCP_JAX_MIRROR'] = {str(mirror)!r}\n"
    run = subprocess.run

    def from_mirror(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "-c", script + command[2], *command[3:]], **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", from_mirror)
    monkeypatch.setenv("NCP_JAX_MIRROR", "")
    upstream.fetch(str(tmp_path), ("ncp/search_list.txt",))
    assert upstream.require() == tmp_path / "raw"
    assert (tmp_path / "raw" / "ncp" / "search_list.txt").read_bytes() == (mirror / "ncp/search_list.txt").read_bytes()


def test_the_last_line_counts_what_did_not_run() -> None:
    reason = "needs the published tables, and none are here: run 'ncp-jax data fetch'"
    assert upstream.summary(["another reason"]) is None
    assert (
        upstream.summary([reason])
        == "1 test needs the published tables and did not run: 'ncp-jax data fetch' brings them"
    )
    assert upstream.summary([reason, "another", reason]).startswith("2 tests need the published tables and did not run")


def test_packages_are_required_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "OPTIONAL", ("numpy", "no_such_package"))
    upstream.check_packages()
    monkeypatch.setattr(upstream, "IN_CI", True)
    with pytest.raises(pytest.UsageError, match=r"missing: \['no_such_package'\]"):
        upstream.check_packages()
