from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Recipe, Table, fit
from ncp_jax.checks import DataError, UsageError
from ncp_jax.training.checkpoint import Checkpoints

ROWS = np.arange(200) % 2 == 0

CHILD = """
import json, sys, time
import jax, numpy as np
from ncp_jax import MetricSpec, Recipe, Table, fit

folder, data = sys.argv[1:]
with np.load(data) as arrays:
    codes, values = arrays["codes"], arrays["values"]
    metrics = [MetricSpec(**m) for m in json.loads(str(arrays["metrics"]))]
    recipe = Recipe(**json.loads(str(arrays["recipe"])))
table = Table.from_arrays("tiny", space="nas-bench-mr", codes=codes, values=values, metrics=metrics)

def wait(done, total):
    print("segment", done, total, flush=True)
    time.sleep(600)

rows = np.arange(200) % 2 == 0
fit(table, recipe=recipe, members=2, key=jax.random.key(7), rows=rows, checkpoint=folder, progress=wait)
"""


def test_a_killed_training_continues_to_the_same_bits(tmp_path: Path, tiny_table: Table, tiny_recipe: Recipe) -> None:
    np.savez(
        tmp_path / "data.npz",
        codes=tiny_table.codes,
        values=np.asarray(tiny_table.values),
        metrics=json.dumps([m.to_json() for m in tiny_table.metrics]),
        recipe=json.dumps(tiny_recipe.to_json()),
    )
    folder = tmp_path / "checkpoint"
    options = {"recipe": tiny_recipe, "members": 2, "key": jax.random.key(7), "rows": ROWS}
    command = [sys.executable, "-c", CHILD, str(folder), str(tmp_path / "data.npz")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "segment 20 40\n"
        with pytest.raises(
            UsageError, match=r"expected no other process on this training, got one that is at work on "
        ):
            fit(tiny_table, checkpoint=folder, **options)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    calls: list[tuple[int, int]] = []
    resumed = fit(tiny_table, checkpoint=folder, progress=lambda *a: calls.append(a), **options)
    assert calls == [(40, 40)], "it should go on behind the segment that was saved"
    whole = fit(tiny_table, **options)
    chex.assert_trees_all_equal(resumed, whole)
    # A finished training is not repeated, and another one is not mixed in.
    calls.clear()
    finished = fit(tiny_table, checkpoint=folder, progress=lambda *a: calls.append(a), **options)
    assert calls == []
    np.testing.assert_array_equal(finished.params["w"][0], whole.params["w"][0])
    with pytest.raises(UsageError, match=r"expected checkpoints of this training in .*, got runs: .* there, .* now"):
        fit(tiny_table, checkpoint=folder, **{**options, "key": jax.random.key(8)})


STATE = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.array([1, 2], jnp.int32),)}


def test_the_newest_state_is_kept(tmp_path: Path) -> None:
    newer = jax.tree.map(lambda a: a + 1, STATE)
    with Checkpoints(tmp_path / "deep" / "c", {"recipe": {"epochs": 3}}) as checkpoints:
        assert checkpoints.load(0, STATE) is None
        checkpoints.save(0, 1, STATE)
        checkpoints.save(0, 2, newer)
    with Checkpoints(tmp_path / "deep" / "c", {"recipe": {"epochs": 3}}) as again:
        found = again.load(0, STATE)
        assert found is not None
        assert found[0] == 2
        chex.assert_trees_all_equal(found[1], newer, strict=True)
        assert again.load(1, STATE) is None


def test_another_training_is_refused_with_the_difference(tmp_path: Path) -> None:
    for signature in ({"recipe": {"epochs": 3}, "jax": "1"}, {"jax": "1", "recipe": {"epochs": 3}}):
        with Checkpoints(tmp_path, signature) as checkpoints:
            checkpoints.save(0, 1, STATE)
    other = Checkpoints(tmp_path, {"recipe": {"epochs": 4}, "jax": "1"})
    match = (
        r"expected checkpoints of this training in .*, got recipe: \{'epochs': 3\} there, \{'epochs': 4\} now; choose "
    )
    with pytest.raises(UsageError, match=match + "another folder"), other:
        pytest.fail("another training is taken for this one")


def test_a_training_without_a_state_makes_room_for_another(tmp_path: Path) -> None:
    for epochs in (3, 4):
        with Checkpoints(tmp_path, {"recipe": {"epochs": epochs}}) as checkpoints:
            assert checkpoints.load(0, STATE) is None
    with Checkpoints(tmp_path, {"recipe": {"epochs": 4}}) as checkpoints:
        checkpoints.save(0, 1, STATE)
    with pytest.raises(UsageError, match="epochs"), Checkpoints(tmp_path, {"recipe": {"epochs": 3}}):
        pytest.fail("another training is taken for this one")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00", "[" * 100_000])
def test_a_damaged_signature(tmp_path: Path, content: str) -> None:
    with Checkpoints(tmp_path, {"jax": "1"}) as checkpoints:
        checkpoints.save(0, 1, STATE)
    (tmp_path / "training.json").write_text(content)
    damaged, match = (
        Checkpoints(tmp_path, {"jax": "1"}),
        r"expected the description of a training in .*json, got .*; delete",
    )
    with pytest.raises(DataError, match=match), damaged:
        pytest.fail("a damaged description is read")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax's writer raises a ValueError with the system's code in its text."""
    text = "RESOURCE_EXHAUSTED: Failed to write 114 bytes to file 7: No space left on device [os_error_code='28']; …"

    def full(*_: object, **__: object) -> None:
        raise ValueError(text)

    checkpoints = Checkpoints(tmp_path, {"jax": "1"})
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(OSError, match=r"expected to write .*, got a full disk .*; free some space and run again"):
        checkpoints.save(0, 1, STATE)
    text = "anything else"
    with pytest.raises(ValueError, match="anything else"):
        checkpoints.save(0, 1, STATE)


def test_a_damaged_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {"jax": "1"})
    checkpoints.save(0, 1, STATE)
    files = [path for path in (tmp_path / "chunk-0000").rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"expected a whole training state in .*chunk-0000, got .*; delete"):
        checkpoints.load(0, STATE)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = Checkpoints(tmp_path / "file" / "c", {"jax": "1"})
    with pytest.raises(OSError, match=r"expected to write .*training\.json, got"), nowhere:
        pytest.fail("nothing can be written there")
