"""Files that leave the package: each against the NNX network with the same weights, and what is refused."""

from __future__ import annotations

import contextlib
import io
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax import (
    UsageError,
    build,
    cost_model,
    count_parameters,
    export_onnx,
    export_source,
    export_weights,
    import_weights,
)
from ncp_jax.benchmarks.sources import all_sources
from ncp_jax.checks import DataError
from ncp_jax.networks import FAMILIES, Form, Network, heads
from ncp_jax.networks.blocks import BasicBlock, Chain
from ncp_jax.networks.cells import Cell
from ncp_jax.networks.heads import BranchClassifier, BranchDetector, BranchSegmenter, Classifier, Decoder
from ncp_jax.networks.layers import ConvBatchNorm, Parameters
from ncp_jax.networks.multi_resolution import Stage, Stem

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

CODES = {
    "nas-bench-201": [1, 0, 4, 3, 2, 2],
    "nas-bench-mr": [8, 8, *(1, 1, 8), *(1, 1, 2, 8, 16), *(2, *[1] * 3, *[8] * 3), *(1, *[1] * 4, *[8] * 4), 8],
    "transnas-micro": [1, 0, 2, 0, 1, 1],
    "transnas-macro": [4, 1, 2, 3, 0, 0],
}
DIGITS = ("transnas-micro", [1, 0, 2, 3, 0, 2], "digits/class")
# Compiling is most of the work here: nothing is gained by fast code.
CHEAP = {"xla_backend_optimization_level": 0}
POOL, NONE, SKIP, ONE, THREE = "avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"


def module_of(text: str) -> types.ModuleType:
    module = types.ModuleType("exported")
    exec(compile(text, "exported.py", "exec"), module.__dict__)
    return module


def moved(network: Network) -> Network:
    """The network with other running averages, scales and biases than those of the start, in evaluation mode."""
    rng = np.random.default_rng(1)
    for path, variable in nnx.iter_graph(network):
        if isinstance(variable, nnx.Variable) and path[-1] in ("mean", "var", "scale", "bias"):
            values = np.asarray(variable[...]) + rng.uniform(-0.2, 0.3, variable.shape)
            variable.set_value(jnp.asarray(values, jnp.float32))
    network.eval()
    return network


def run(module: nnx.Module, images: np.ndarray) -> np.ndarray:
    graph, state = nnx.split(module)
    return np.asarray(jax.jit(lambda s, x: nnx.merge(graph, s)(x), compiler_options=CHEAP)(state, images))


# Little networks of every kind of module: nodes without edges, edges that lead nowhere, skips that change shape.


def cells(task: str, head: Any, *, pieces: tuple[str, int] = ("", 0), outputs: int = 5) -> Network:
    """Cells and residual blocks, as TransNAS and NAS-Bench-201 have them."""
    made: dict[str, Any] = {"parameters": Parameters(jax.random.key(2))}
    stages = {
        "stem": Chain([ConvBatchNorm(3, 4, 3, stride=2, **made), ConvBatchNorm(4, 4, 3, relu="before", **made)]),
        "module 1": Chain([Cell([SKIP, NONE, ONE, NONE, THREE, SKIP], 4, 6, stride=2, **made)]),
        "module 2": Chain([Cell([NONE, NONE, THREE, SKIP, NONE, ONE], 6, 8, stride=2, **made)]),
        "cells": Chain([Cell([POOL, THREE, SKIP, ONE, POOL, NONE], 8, 8, **made) for _ in range(3)]),
        "reduction": BasicBlock(8, 6, stride=2, pooled=True, **made),
        "blocks": Chain(
            [BasicBlock(6, 4, stride=1, pooled=False, **made), BasicBlock(4, 4, stride=1, pooled=False, **made)]
        ),
    }
    form = Form("transnas-macro", (4, 1, 2, 3, 0, 0), task, 16, True, *pieces, outputs, 16)
    return Network(form, stages, head(4, made["parameters"]))


def branches(task: str, head: type, *, pieces: tuple[str, int] = ("", 0), inputs: int = 3) -> Network:
    """Two branches of NAS-Bench-MR."""
    made: dict[str, Any] = {"parameters": Parameters(jax.random.key(2))}
    stages = {
        "stem": Stem([4, 6], inputs=inputs, **made),
        "stage 1": Stage([6], 1, [1], [4], **made),
        "stage 2": Stage([4], 2, [1, 2], [4, 6], **made),
    }
    form = Form("nas-bench-mr", tuple(CODES["nas-bench-mr"]), task, 8, False, *pieces, 5, 20, channels=inputs)
    return Network(form, stages, head([4, 6], 4, 5, **made))


def decoder(generates: bool) -> Any:
    return lambda inputs, parameters: Decoder(inputs, 5, 4, generates=generates, parameters=parameters)


def classifier(pieces: int, norm: bool) -> Any:
    return lambda inputs, parameters: Classifier(inputs, 5, pieces=pieces, norm=norm, parameters=parameters)


LITTLE = {
    "classes": (lambda: cells("class_scene", classifier(1, norm=True)), (2, 16, 16, 3)),
    "tiles": (lambda: cells("jigsaw", classifier(9, norm=False), pieces=("tiles", 9)), (2, 9, 16, 16, 3)),
    "pixels": (lambda: cells("segmentsemantic", decoder(generates=False)), (2, 16, 16, 3)),
    "image": (lambda: cells("normal", decoder(generates=True)), (2, 16, 16, 3)),
    "branches": (lambda: branches("classification", BranchClassifier), (2, 20, 20, 3)),
    "branches to pixels": (lambda: branches("seg", BranchSegmenter), (2, 20, 20, 3)),
    "branches to boxes": (lambda: branches("3ddet", BranchDetector, inputs=5), (2, 20, 20, 5)),
    "frames": (lambda: branches("video", BranchClassifier, pieces=("frames", 0)), (2, 3, 20, 20, 3)),
    "digits": (lambda: build(*DIGITS), (2, 8, 8, 1)),
    "digits, all pixels": (lambda: build("transnas-micro", [0, 1, 3, 0, 2, 2], "digits/autoencoder"), (2, 8, 8, 1)),
    "digits, empty cell": (lambda: build("transnas-micro", [0, 0, 0, 0, 0, 1], "digits/edges"), (2, 8, 8, 1)),
}


def tensors(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


@pytest.mark.parametrize("name", LITTLE)
def test_exports_compute_what_the_network_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "decoder_layers", lambda kind, doublings: [(6, False), *[(4, True)] * doublings])
    make, shape = LITTLE[name]
    network, images = moved(make()), np.random.default_rng(1).normal(size=shape).astype(np.float32)
    wanted = run(network, images)
    assert "empty" in name or float(np.ptp(wanted, axis=0).max()) > 1e-3
    tolerance = 1e-5 * max(1.0, float(np.abs(wanted).max()))
    first = np.ascontiguousarray(np.moveaxis(images, -1, -3))

    def channels_last(outputs: np.ndarray) -> np.ndarray:
        return np.moveaxis(outputs, 1, -1) if outputs.ndim == 4 else outputs

    exported = module_of(export_source(network, "torch")).Network().eval()
    assert sum(parameter.numel() for parameter in exported.parameters()) == count_parameters(network)
    exported.load_state_dict(tensors(export_weights(network, "torch")))
    with torch.no_grad():
        np.testing.assert_allclose(channels_last(exported(torch.from_numpy(first)).numpy()), wanted, atol=tolerance)

    # Weights that were trained there come back.
    back = make()
    import_weights(back, exported.state_dict())
    np.testing.assert_array_equal(_flat(back), _flat(network))

    module = module_of(export_source(network, "flax"))
    ours = module.Network(rngs=nnx.Rngs(0))
    module.load_weights(ours, export_weights(network, "flax"))
    ours.eval()
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(ours, nnx.Param))) == count_parameters(network)
    np.testing.assert_allclose(run(ours, images), wanted, atol=tolerance)

    path = export_onnx(network, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": first})
    np.testing.assert_allclose(channels_last(outputs), wanted, atol=10 * tolerance)


@pytest.mark.parametrize(
    ("space", "tasks"),
    [
        ("nas-bench-201", ["cifar100"]),
        ("nas-bench-mr", ["cls-10c", "seg", "video", "3ddet"]),
        ("transnas-micro", ["class_scene", "jigsaw", "digits/rotation"]),
        ("transnas-macro", ["room_layout", "segmentsemantic", "autoencoder"]),
    ],
)
def test_whole_networks_have_the_parameters_of_their_costs(space: str, tasks: list[str]) -> None:
    for task in tasks:
        network = build(space, CODES[space], task, abstract=True)
        with torch.device("meta"):
            exported = module_of(export_source(network, "torch", side=8 if "/" in task else 32)).Network()
        exact = cost_model(space, task, of="task").exact(np.array(CODES[space]))
        assert sum(parameter.numel() for parameter in exported.parameters()) == int(exact["params"])


def _flat(network: Network) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(nnx.state(network))])


def test_files_say_what_they_are_and_run() -> None:
    network = build(*DIGITS, abstract=True)
    for framework, other in (("torch", "flax"), ("flax", "torch")):
        text = export_source(network, framework)
        for word in (
            "1, 0, 2, 3, 0, 2",
            f"{count_parameters(network):,}",
            "arXiv:2105.11871",
            "[n, 10]",
            "digits/class",
        ):
            assert word in text.split('"""')[1]
        assert other not in text.lower()
        assert "import ncp_jax" not in text
        assert max(map(len, text.splitlines())) <= 120
        shown = io.StringIO()
        namespace = {"__name__": "__main__"}
        with contextlib.redirect_stdout(shown):
            exec(compile(text, "exported.py", "exec"), namespace)
        assert f"parameters: {count_parameters(network)}\n" in shown.getvalue()
        assert "outputs: [1, 10]" in shown.getvalue()


def test_weights_go_through_files(tmp_path: Path) -> None:
    network, other = moved(build(*DIGITS)), build(*DIGITS, key=jax.random.key(7))
    for framework, name in (("torch", "w.safetensors"), ("flax", "w.npz")):
        written = export_weights(network, framework, tmp_path / name)
        assert all(array.flags.c_contiguous and array.flags.writeable for array in written.values())
        import_weights(other, tmp_path / name, framework)
        np.testing.assert_array_equal(_flat(other), _flat(network))


def test_what_exports_refuse(tmp_path: Path) -> None:
    network, shapes = build(*DIGITS), build(*DIGITS, abstract=True)
    weights = export_weights(network)
    before = _flat(network)
    bad = dict(weights)
    bad["head.linear.weight"] = bad["head.linear.weight"][:3]
    for words, call in [
        ("did you mean: torch|one of torch, flax", lambda: export_source(network, "pytorch")),
        ("a network with values, got an abstract one", lambda: export_weights(shapes)),
        (r"ends in .safetensors or .npz", lambda: export_weights(network, "torch", tmp_path / "w.pt")),
        (r"1 missing .head.linear.bias., 1 more .x.", lambda: import_weights(network, _renamed(weights))),
        (r"head.linear.weight of shape .10, 12., got .3, 12.", lambda: import_weights(network, bad)),
        ("pixels for this network", lambda: export_source(network, side=16)),
    ]:
        with pytest.raises(UsageError, match=words):
            call()
    np.testing.assert_array_equal(_flat(network), before)
    with pytest.raises(FileNotFoundError, match="no such file"):
        import_weights(network, tmp_path / "none.npz")
    for name in ("w.npz", "w.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(DataError, match=r"a whole \S+ file of arrays"):
            import_weights(network, tmp_path / name)

    class Own(Chain):
        """A module that exports don't know."""

    network.stages["stem"] = Own([network.stages["stem"]])
    with pytest.raises(UsageError, match="got one with a Own"):
        export_source(network)


def _renamed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"x" if name == "head.linear.bias" else name: array for name, array in weights.items()}


def test_citations_are_those_of_the_tables() -> None:
    papers = {paper for source in all_sources().values() for paper in source.citations}
    assert {family.citation for family in FAMILIES.values() if family.citation} <= papers
