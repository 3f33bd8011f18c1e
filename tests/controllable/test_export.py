"""Exported sub-networks of every encoder, with jigsaws and BatchNorm, against the masked model; and what is refused."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax.array_files import read_npz, write_npz
from ncp_jax.checks import DataError, UsageError
from ncp_jax.controllable.answers import Answers, WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import Controllable, ModelCard, write_weights
from ncp_jax.controllable.counts import count
from ncp_jax.controllable.export import export, load_subnetwork
from ncp_jax.controllable.model import ControllableModel, measured_statistics
from ncp_jax.controllable.tasks import Target
from ncp_jax.networks.counting import count_operations, count_parameters

TARGETS = (Target("digit", "classes", 3), Target("edges", "pixels", 2))
JIGSAWS = (Target("order", "jigsaw", 5), TARGETS[1], Target("more", "jigsaw3", 7), TARGETS[0])
SIZES: dict[str, Any] = {"decoder": 4, "ratios": (0.5, 1.0), "multiple": 2}
RESIDUAL = ModelConfig(12, 2, JIGSAWS, channels=(4, 8), strides=(1, 2), norm="batch", **SIZES)
# Sides become odd, so that enlarged features lose pixels. Skips pass from wide to narrow in MICRO, and back in MACRO.
MICRO = ModelConfig(
    *(9, 2, TARGETS),
    encoder="transnas-micro:64-41414-3_30_132",
    channels=(4,),
    **SIZES | {"norm": "batch"},
)
# Four channels or more: normalised alone, two that are nearly equal differ by rounding.
MACRO = ModelConfig(
    *(14, 2, (*TARGETS, JIGSAWS[0])),
    encoder="transnas-macro:64-1243-basic",
    channels=(8,),
    **SIZES | {"norm": "layer", "decoder": 8},
)
MR = ModelConfig(
    *(9, 2, TARGETS),
    encoder="nas-bench-mr:8_8-1_1_1_8-2_2_1_1_8_16-1_3_1_1_1_8_16_24-1_4_1_1_1_1_8_16_8_32-64",
    **SIZES,
)


def code_of(sizes: ModelConfig) -> np.ndarray:
    """Returns widths of which wide ones follow narrow ones, and narrow ones wide ones."""
    return np.array([values[place % 2] for place, values in enumerate(sizes.widths)])


def trained(sizes: ModelConfig, folder: Path) -> tuple[Controllable, WidthChoice]:
    """Returns a model whose scales, shifts and biases are as training leaves them, and an answer."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32),
        nnx.state(ControllableModel(sizes, jax.random.key(0)), nnx.Param),
    )
    card = ModelCard(
        model=sizes, weights=write_weights(folder, params), examples="", data="", settings={}, skipped=0, made={}
    )
    code, tasks = code_of(sizes), tuple(target.name for target in sizes.targets)
    costs, values = count(sizes, code.tolist()), np.ones((1, len(tasks)))
    answers = Answers(
        *(sizes.names, tasks, code[None], np.array([costs.flops]), np.array([costs.params]), values, values),
        origin=card.origin,
    )
    return Controllable(folder, sizes, answers, card), answers.query(costs.flops, np.ones(len(tasks)))


def pictures(sizes: ModelConfig, seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, sizes.side, sizes.side, sizes.colours)).astype(np.float32)


def compare(found: Any, expected: list[np.ndarray], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0.05
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sizes", [RESIDUAL, MICRO, MACRO, MR], ids=lambda sizes: sizes.encoder.partition(":")[0])
def test_exports_equal_the_masked_model_at_exact_costs(sizes: ModelConfig, tmp_path: Path) -> None:
    model, choice = trained(sizes, tmp_path)
    train, images = pictures(sizes, 1, 300), pictures(sizes, 2, 3)

    def written(form: str, name: str) -> Path:
        path = tmp_path / name
        export(model, choice, to=form, path=path, images=train if sizes.norm == "batch" else None)
        return path

    whole, widths = model.network(), jnp.asarray(choice.codes)
    # The statistics of the measurement: the first 256 training images.
    masked = jax.jit(lambda x, y: whole(x, widths, measured_statistics(whole, y, widths)))(images, train[:256])
    expected = [np.asarray(out) for out in masked]

    part = load_subnetwork(written("flax", "sub.npz"))
    compare(jax.jit(part.__call__)(images), expected, 1e-5)
    assert count_parameters(part) == choice.params
    assert count_operations(part, 1, sizes.side, sizes.side, 2).multiply_adds == choice.flops

    given, expected = images.transpose(0, 3, 1, 2).copy(), [np.moveaxis(out, -1, 1) for out in expected]
    module = written("torch", "module.py")
    source = module.read_text()
    assert "ncp_jax" not in source
    assert max(map(len, source.splitlines())) <= 120
    torch = pytest.importorskip("torch")
    network = runpy.run_path(str(module))["load"]()
    assert network.tasks == tuple(target.name for target in sizes.targets)
    assert sum(parameter.numel() for parameter in network.parameters()) == choice.params
    flops = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False)
    with torch.no_grad(), flops:
        network(torch.from_numpy(given[:1]))
    assert flops.get_total_flops() == 2 * choice.flops  # which counts multiplications and additions
    with torch.no_grad():
        compare([out.numpy() for out in network(torch.from_numpy(given))], expected, 1e-5)

    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(written("onnx", "sub.onnx")))
    compare(session.run(list(network.tasks), {"images": given}), expected, 1e-4)


def test_names_of_tasks_in_onnx(tmp_path: Path) -> None:
    """A task may be named as what the graph is made of, but not as its input."""
    runtime = pytest.importorskip("onnxruntime")
    sizes = dataclasses.replace(MR, targets=(Target("relu3", "classes", 3), Target("ones_2", "classes", 2)))
    model, choice = trained(sizes, tmp_path)
    export(model, choice, to="onnx", path=tmp_path / "sub.onnx")
    session = runtime.InferenceSession(str(tmp_path / "sub.onnx"))
    assert [output.name for output in session.get_outputs()] == ["relu3", "ones_2"]
    model, choice = trained(dataclasses.replace(MR, targets=(Target("images", "classes", 3),)), tmp_path)
    with pytest.raises(UsageError, match="tasks of other names than images for --to onnx"):
        export(model, choice, to="onnx", path=tmp_path / "other.onnx")


def test_weights_of_another_framework_are_not_replaced(tmp_path: Path) -> None:
    model, choice = trained(MR, tmp_path)
    forms = {"flax": tmp_path / "sub.npz", "torch": tmp_path / "sub.py"}
    for one, other in (("flax", "torch"), ("torch", "flax")):
        for _ in range(2):  # its own file is replaced
            export(model, choice, to=one, path=forms[one])
        before = forms["flax"].read_bytes()
        with pytest.raises(UsageError, match=rf"no weights for {one} at .*sub.npz, where those for {other} would go"):
            export(model, choice, to=other, path=forms[other])
        assert forms["flax"].read_bytes() == before
        forms["flax"].unlink()


def test_training_images_that_are_refused(tmp_path: Path) -> None:
    model, choice = trained(RESIDUAL, tmp_path)
    for images, got in (
        (None, "none"),
        (np.zeros((3, 6, 6, 2)), r"shape \[3, 6, 6, 2\]"),
        (np.zeros((0, 12, 12, 2)), r"shape \[0, 12, 12, 2\]"),
        (np.zeros((12, 12, 2)), r"shape \[12, 12, 2\]"),
    ):
        for form, name in (("flax", "sub.npz"), ("torch", "sub.py"), ("onnx", "sub.onnx")):
            message = rf"training images \[n, 12, 12, 2\], to measure statistics of BatchNorm on, got {got}; give those"
            with pytest.raises(UsageError, match=message):
                export(model, choice, to=form, path=tmp_path / name, images=images)
            assert not (tmp_path / name).exists()


def test_files_of_statistics(tmp_path: Path) -> None:
    sizes = dataclasses.replace(RESIDUAL, targets=JIGSAWS[:2])
    model, choice = trained(sizes, tmp_path)
    path = tmp_path / "sub.npz"
    export(model, choice, to="flax", path=path, images=pictures(sizes, 1, 8))
    part, arrays = load_subnetwork(path), read_npz(path.read_bytes())
    assert part.statistics is not None
    assert part.sliced([values[0] for values in sizes.widths]).statistics is None  # which other widths have
    assert arrays["encoder.1.third.norm.mean"].shape == (2, 8)  # of images, and of tiles
    assert arrays["decoders.0.layer.norm.var"].shape == (1, 2)
    for name, array in (("encoder.1.third.norm.mean", np.zeros((2, 1))), ("decoders.0.layer.norm.var", None)):
        changed = {key: value for key, value in arrays.items() if key != name}
        write_npz(path, changed if array is None else changed | {name: array})
        with pytest.raises(DataError, match=rf"expected a file of format .*{name.rpartition('.')[0]}"):
            load_subnetwork(path)
