"""A trained folder: questions by Python and the command line, the audit, exports, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ncp_jax as ncp
from ncp_jax.checks import DataError, MissingError, UsageError
from ncp_jax.commands.widths import read_budget
from ncp_jax.commands.widths_config import WidthsConfig
from ncp_jax.commands.widths_training import read_data, train_widths
from ncp_jax.controllable.answers import Answers
from ncp_jax.controllable.evolution import EvolutionConfig, evolved_answers
from ncp_jax.controllable.export import load_subnetwork
from ncp_jax.controllable.losses import task_score
from ncp_jax.controllable.measurement import measure
from ncp_jax.controllable.model import measured_statistics
from ncp_jax.controllable.program import Settings
from ncp_jax.controllable.search import budget_grid, enumerate_answers, published_rule, questions
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.training import train_models
from ncp_jax.controllable.widths import exact_costs, width_space
from ncp_jax.networks.counting import count_operations, count_parameters

from .conftest import user_arrays


@pytest.fixture(scope="module")
def model(folder: Path) -> ncp.Controllable:
    return ncp.Controllable.load(folder)


@pytest.fixture(scope="module")
def examples(config: WidthsConfig) -> Examples:
    return read_data(config.data)


def test_answers_are_those_of_the_real_model_within_the_budget(model: ncp.Controllable, examples: Examples) -> None:
    oracle = enumerate_answers(model.config, model.params(), examples)
    budgets, preferences = questions(model.config, 500, seed=3)
    found, best = (answers.query(budgets, preferences) for answers in (model, oracle))
    assert (found.flops <= budgets).all()
    costs = exact_costs(model.config, found.codes)
    np.testing.assert_array_equal(found.flops, costs["flops"])
    np.testing.assert_array_equal(found.params, costs["params"])
    measured = measure(model.config, model.params(), examples, found.codes).of(found.codes)
    np.testing.assert_allclose(found.measurements, measured, atol=1e-4)
    gap = ((best.measurements - found.measurements) * preferences).sum(axis=1)
    assert (gap <= 0.01 * np.abs((best.measurements * preferences).sum(axis=1)) + 1e-4).mean() >= 0.95
    assert gap.min() >= -1e-4
    # The oracle's file has the best of all configurations, by brute force.
    codes = np.asarray(width_space(model.config).all_codes())
    values = measure(model.config, model.params(), examples, codes).of(codes)
    for budget, weights, row in zip(budgets[:20], preferences[:20], best.measurements[:20], strict=True):
        within = exact_costs(model.config, codes)["flops"] <= budget
        assert row @ weights == pytest.approx((values[within] @ weights).max(), abs=1e-4)
        rule = published_rule(model.config, measure(model.config, model.params(), examples, codes), budget, weights)
        assert exact_costs(model.config, rule[None])["flops"][0] <= budget


def test_raising_a_preference_never_lowers_the_metric(model: ncp.Controllable) -> None:
    for place, task in enumerate(model.tasks):
        for budget in budget_grid(model.config, 5):
            weights = np.full((20, len(model.tasks)), 0.2)
            weights[:, place] = np.linspace(0, 3, 20)
            found = model.query(budget, weights)
            assert (np.diff(found.measured[task]) >= 0).all()


def test_measurements_are_those_of_the_sub_networks(model: ncp.Controllable, examples: Examples) -> None:
    images, truths = examples.part("validation")
    choice = model.query(1e9, {"bar": 1, "twice": 2})
    outputs = jax.jit(model.network(choice.widths).__call__)(images)
    for target, out, truth in zip(model.config.targets, outputs, truths, strict=True):
        assert choice.measured[target.name] == pytest.approx(float(task_score(target, out, truth)), abs=1e-3)


def test_questions_one_at_a_time_and_together(model: ncp.Controllable) -> None:
    budgets, preferences = questions(model.config, 40, seed=5)
    together = model.query(budgets, preferences)
    for row, (budget, weights) in enumerate(zip(budgets, preferences, strict=True)):
        one = model.query(float(budget), dict(zip(model.tasks, weights.tolist(), strict=True)))
        assert one.to_json()["widths"] == {name: int(v[row]) for name, v in together.widths.items()}
    one = model.query(1e9, [1.0, 0, 0])
    assert list(one.to_json()) == ["schema", "widths", "flops", "params", "predicted", "measured"]
    assert set(one.to_json()["predicted"]) == set(model.tasks) == set(one["measured"])
    assert model.query([1e9, 2e9], {"bar": 1}).flops.tolist() == [one.flops] * 2


def test_thousands_of_questions_take_less_than_a_second(model: ncp.Controllable) -> None:
    rng, n, t = np.random.default_rng(0), 4000, 4
    rows = rng.random((n, t))
    large = Answers(
        tuple("ab"), tuple("wxyz"), np.zeros((n, 2), int), np.arange(n) + 1, np.arange(n), rows, rows, origin={}
    )
    budgets, preferences = rng.uniform(1, n, 10_000), rng.dirichlet(np.ones(t), 10_000)
    begin = time.process_time()
    large.query(budgets, preferences)
    assert time.process_time() - begin < 1
    begin = time.process_time()
    for _ in range(100):
        large.query(n / 2, {"x": 1.0})
    assert time.process_time() - begin < 0.1


@pytest.mark.parametrize(
    ("budget", "preferences", "message"),
    [
        (10, {"bar": 1}, r"a budget of at least \d+ multiply-adds, those of the smallest sub-network, got 10;"),
        ([1e9, -5], {"bar": 1}, "at least .* got -5;"),
        (float("nan"), {"bar": 1}, "expected a budget"),
        (1e9, {"bar": -1}, "preferences >= 0"),
        (1e9, {"bar": 0, "parts": 0}, "one of them above 0"),
        (1e9, {}, "one of them above 0"),
        (1e9, {"barr": 1}, "did you mean: bar"),
        (1e9, {"bar": float("inf")}, "preferences >= 0"),
        (1e9, [1.0, 2.0], "a preference for each of bar, parts, twice"),
        ([1e9, 1e9, 1e9], np.ones((2, 3)), "as many budgets as preferences, got 3 and 2"),
        ("2M", {"bar": 1}, "expected a budget.*got '2M'"),
        (1e9, {"bar": "much"}, "preferences >= 0"),
        (1e9, [1e308, 1e308, 1e308], "preferences >= 0"),
        (1e9, {"bar": 1, "BAR": 2}, "each task once"),
        ([1e9, 1e9, 1e9], {"bar": [1, 2, 3], "twice": [1, 2]}, "with as many as the others"),
    ],
)
def test_bad_questions(model: ncp.Controllable, budget: Any, preferences: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model.query(budget, preferences)


def test_the_command_line(folder: Path, command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    asked = ("--budget", "2M", "--prefer", "bar=0.7", "--prefer", "twice=0.3")
    status, out, err = command("widths", "query", folder, *asked, "--json")
    assert status == 0, err
    content = json.loads(out)
    assert content == ncp.Controllable.load(folder).query(2e6, {"bar": 0.7, "twice": 0.3}).to_json()
    status, out, err = command("widths", "query", folder, *asked)
    assert (status, f"{content['flops']} multiply-adds, {content['params']} parameters" in out) == (0, True)
    for wrong, message in (
        (("--budget", "1", "--prefer", "bar=1"), "a budget of at least"),
        (("--budget", "-2M", "--prefer", "bar=1"), "a number of multiply-adds above 0"),
        (("--budget", "2M"), "tasks of the model: bar, parts, twice"),
        (("--budget", "2M", "--prefer", "bar"), "TASK=NUMBER"),
        (("--budget", "2M", "--prefer", "bar=-1"), "TASK=NUMBER with a number >= 0"),
        (("--budget", "2M", "--prefer", "bar=0"), "one of them above 0"),
        (("--budget", "2M", "--prefer", "bar=1", "--prefer", "BAR=2"), "bar twice"),
        (("--budget", "2M", "--prefer", "baz=1"), "did you mean: bar"),
    ):
        status, out, err = command("widths", "query", folder, *wrong)
        assert (status, out) == (2, "")
        assert message in err
    path = tmp_path / "sub.npz"
    status, out, err = command("widths", "export", folder, *asked, "--to", "flax", "--out", path, "--json")
    assert (status, json.loads(out)) == (0, content)
    part, whole = load_subnetwork(path), ncp.Controllable.load(folder).network()
    assert count_parameters(part) == content["params"]
    assert count_operations(part, 1, 6, 6, 1).multiply_adds == content["flops"]
    images = np.random.default_rng(1).standard_normal((5, 6, 6, 1)).astype(np.float32)
    masked = jax.jit(whole.__call__)(images, np.array(list(content["widths"].values())))
    for one, other in zip(jax.jit(part.__call__)(images), masked, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    status, _, err = command("widths", "export", folder, *asked, "--to", "caffe", "--out", path)
    assert (status, "form of an export" in err) == (2, True)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="expected a file of format"):
        load_subnetwork(path)


def test_exports_to_other_frameworks(
    folder: Path, model: ncp.Controllable, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    asked = ("--budget", "1M", "--prefer", "bar=1", "--prefer", "parts=1")
    images = np.random.default_rng(1).standard_normal((3, 1, 6, 6)).astype(np.float32)
    choice = model.query(1e6, {"bar": 1, "parts": 1})
    expected = jax.jit(model.network(choice.widths).__call__)(images.transpose(0, 2, 3, 1))
    expected = [np.moveaxis(np.asarray(out), -1, 1) for out in expected]
    status, _, err = command("widths", "export", folder, *asked, "--to", "torch", "--out", tmp_path / "sub.py")
    assert status == 0, err
    assert "ncp_jax" not in (tmp_path / "sub.py").read_text()
    torch = pytest.importorskip("torch")
    network = runpy.run_path(str(tmp_path / "sub.py"))["load"]()
    assert sum(p.numel() for p in network.parameters()) == choice.params
    with torch.no_grad():
        for one, other in zip(network(torch.from_numpy(images)), expected, strict=True):
            np.testing.assert_allclose(one.numpy(), other, atol=1e-5)
    status, _, err = command("widths", "export", folder, *asked, "--to", "torch", "--out", tmp_path / "sub.pt")
    assert (status, "ends in .py" in err) == (2, True)
    runtime = pytest.importorskip("onnxruntime")
    status, _, err = command("widths", "export", folder, *asked, "--to", "onnx", "--out", tmp_path / "sub.onnx")
    assert status == 0, err
    session = runtime.InferenceSession(str(tmp_path / "sub.onnx"))
    for one, other in zip(session.run(list(model.tasks), {"images": images}), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_folders_that_do_not_belong_together(folder: Path, config: WidthsConfig, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="a controllable model in"):
        ncp.Controllable.load(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    card = json.loads((other / "model.json").read_text())
    for key, value, message in (("model", "0" * 64, "another model"), ("data set", "1" * 64, "another data set")):
        changed = card | {"origin": card["origin"] | {key: value}}
        (other / "model.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=message):
            ncp.Controllable.load(other)
    (other / "model.json").write_text(json.dumps(card | {"schema": "widths-model/9"}))
    with pytest.raises(DataError, match="train it anew with this version"):
        ncp.Controllable.load(other)
    (other / "model.json").write_text(json.dumps(card))
    (other / "weights.npz").write_bytes(b"0")
    with pytest.raises(DataError, match="those of another model, or a damaged file"):
        ncp.Controllable.load(other).network()
    (other / "answers.npz").write_bytes((folder / "answers.npz").read_bytes()[:-40])
    with pytest.raises(DataError, match="expected a file of format"):
        ncp.Controllable.load(other)
    with pytest.raises(UsageError, match="another model"):
        train_widths(dataclasses.replace(config, seed=7), folder)
    model = ncp.Controllable.load(folder)
    with pytest.raises(UsageError, match="a width for"):
        model.network({"decoder.bar": 4})
    with pytest.raises(UsageError, match=r"encoder\[1\] to be one of the trained widths"):
        model.network({**model.query(1e9, {"bar": 1}).widths, "encoder[1]": 3})


def test_classes_that_no_training_image_has(
    config: WidthsConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = user_arrays()
    arrays["bar.classes"] = np.where((arrays["bar.classes"] == 0) & (arrays["split"] == 0), 3, arrays["bar.classes"])
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    (tmp_path / "afile").touch()
    with pytest.raises(FileExistsError):
        train_widths(dataclasses.replace(config, data=str(tmp_path / "x.npz")), tmp_path / "afile")
    assert "1 of the 4 classes of bar are in no training image: 0" in caplog.text


def test_a_finished_folder_is_made_again_from_its_checkpoint(folder: Path, config: WidthsConfig) -> None:
    before = (folder / "weights.npz").read_bytes()
    train_widths(config, folder)
    assert (folder / "weights.npz").read_bytes() == before


# The command line, whose process is killed behind the first checkpoint, in the middle of the training.
KILLED = """
import os, signal
from ncp_jax import cli
from ncp_jax.controllable import training

segments, advance = [], training.advance


def advance_or_die(*arguments, **settings):
    segments.append(1)
    return advance(*arguments, **settings) if len(segments) == 1 else os.kill(os.getpid(), signal.SIGKILL)


training.advance = advance_or_die
cli.main()
"""


def test_a_killed_training_goes_on(folder: Path, config: WidthsConfig, tmp_path: Path) -> None:
    """kill -9 of ``ncp-jax widths train`` behind a checkpoint: the next call ends in the same bits."""
    command = [
        sys.executable,
        "-c",
        KILLED,
        "widths",
        "train",
        "--smoke",
        "--data",
        config.data,
        "--out",
        str(tmp_path),
    ]
    checkpoints = tmp_path / "checkpoints"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert subprocess.run(command, capture_output=True, env=environment).returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]
    examples = read_data(config.data)
    model, train = config.model(examples), config.train()
    steps: list[int] = []
    train_models(
        *(model, examples, [Settings.make(model, train, seed=config.seed)]),
        train=train,
        folder=checkpoints,
        progress=lambda done, _: steps.append(done),
    )
    assert steps == [train.segment, train.steps], "it should go on from the checkpoint"
    train_widths(config, tmp_path)
    assert (tmp_path / "weights.npz").read_bytes() == (folder / "weights.npz").read_bytes()
    one, other = (ncp.Controllable.load(where).answers for where in (tmp_path, folder))
    for name in ("codes", "flops", "params", "predicted", "measured"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_model_with_batch_normalisation(
    folder: Path, examples: Examples, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Statistics are measured on the data that the model was trained on, wherever they are."""
    other, path = tmp_path / "other", tmp_path / "sub.npz"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("checkpoints"))
    card = json.loads((other / "model.json").read_text())
    card |= {"model": card["model"] | {"norm": "batch"}}
    (other / "model.json").write_text(json.dumps(card))
    asked = ("widths", "export", other, "--budget", "2M", "--prefer", "bar=1", "--to", "flax", "--out", path)
    status, out, err = command(*asked, "--json")
    assert status == 0, err
    part, whole = load_subnetwork(path), ncp.Controllable.load(other).network()
    widths = np.array(list(json.loads(out)["widths"].values()))
    train, images = (examples.part(split)[0] for split in ("train", "validation"))
    masked = jax.jit(lambda x, y: whole(x, widths, measured_statistics(whole, y, widths)))(images, train)
    for one, expected in zip(jax.jit(part.__call__)(images), masked, strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-5)
    content = path.read_bytes()
    path.unlink()
    data, changed = card["data"]["name"], user_arrays()
    np.savez(tmp_path / "x.npz", **changed | {"images": changed["images"] + 1})  # type: ignore[arg-type]
    card["data"] |= {"name": str(tmp_path / "gone.npz")}
    (other / "model.json").write_text(json.dumps(card))
    for options, message in (
        ((), "gone.npz, to measure statistics of BatchNorm, got no such file; name the file with --data"),
        (("--data", tmp_path / "x.npz"), "x.npz, to measure statistics of BatchNorm, got other data; name the file"),
        (("--data", tmp_path / "none.npz"), "none.npz, to measure statistics of BatchNorm, got no such file"),
    ):
        status, out, err = command(*asked, *options)
        assert (status, out) == (1, "")
        assert message in err
        assert not path.exists()
    assert command(*asked, "--data", data)[0] == 0
    assert path.read_bytes() == content


def test_no_questions_and_bad_files_of_answers(model: ncp.Controllable, tmp_path: Path) -> None:
    assert model.query([], {"bar": 1}).codes.shape == (0, len(model.config.names))
    broken = dataclasses.replace(model.answers, flops=model.answers.flops * 1.5)
    with pytest.raises(DataError, match="flops that are no integers"):
        Answers.load(broken.save(tmp_path / "answers.npz"))


def test_budgets() -> None:
    assert [read_budget(text) for text in ("300000", "300K", "1.5m", "2G", "1e6")] == [3e5, 3e5, 1.5e6, 2e9, 1e6]
    for text in ("", "2T", "0", "-1K", "nan", "1e999", "2 M M"):
        with pytest.raises(UsageError, match="--budget as a number"):
            read_budget(text)


def test_one_call_for_many_configurations_equals_single_ones(model: ncp.Controllable, examples: Examples) -> None:
    codes = np.asarray(width_space(model.config).sample(jax.random.key(0), 6))
    together = measure(model.config, model.params(), examples, codes).of(codes)
    alone = [measure(model.config, model.params(), examples, code[None]).of(code[None])[0] for code in codes]
    np.testing.assert_allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_images_are_measured_in_portions(
    model: ncp.Controllable, examples: Examples, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(model.config, norm=norm)
    codes = np.asarray(width_space(config).sample(jax.random.key(0), 3))
    together = measure(config, model.params(), examples, codes).of(codes)
    monkeypatch.setattr("ncp_jax.controllable.measurement.PIXELS_ON_CPU", 36 * 7)  # portions of 7 of the 30 images
    np.testing.assert_allclose(measure(config, model.params(), examples, codes).of(codes), together, atol=1e-3)


def test_an_evolution_that_measures_all_encoders_is_the_oracle(model: ncp.Controllable, examples: Examples) -> None:
    trained = (model.config, model.params(), examples)
    best, found = enumerate_answers(*trained), evolved_answers(*trained, EvolutionConfig(generations=3, children=2))
    np.testing.assert_array_equal(found.codes, best.codes)
    np.testing.assert_allclose(found.measured, best.measured, atol=1e-4)
