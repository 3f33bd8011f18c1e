"""Default tables of experiments: the published ones, or digits where nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.tables import is_here, joint_table, or_digits

from ncp_jax import checks
from ncp_jax.benchmarks.registry import load_tasks


def test_published_tables_come_first(mirror: Path, empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert is_here("transnas-micro")
    assert or_digits("transnas-micro", "nas-bench-201") == ("transnas-micro", "nas-bench-201")
    assert joint_table(["seg"]).space == "nas-bench-mr"
    assert caplog.messages == []


def test_without_them_the_one_that_ships(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)
    assert not is_here("nas-bench-mr")
    assert or_digits("transnas-micro") == ("digits",)
    assert "transnas-micro not downloaded (ncp-jax data fetch): using digits" in caplog.messages[0]
    assert joint_table().name == "digits"
    assert [
        m.name for m in joint_table(["class", "edges"]).metrics if m.split == "validation" and m.epoch == "final"
    ] == [
        "class/accuracy",
        "edges/r2",
    ]
    assert len(load_tasks("digits")) == 5
    with pytest.raises(FileNotFoundError, match="data fetch"):
        joint_table(["seg"])
    with pytest.raises(checks.UsageError, match="known table"):
        joint_table(["segg"])
