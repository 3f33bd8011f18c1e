"""``ncp-jax build``: what it prints, how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import pytest

from ncp_jax import build, cli, cost_model, export_weights, get_space

MICRO = "64-41414-1_02_333"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ncp-jax", "build", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


def test_summary_line_and_json_agree_with_the_costs(run) -> None:
    space = get_space("transnas-micro")
    code = space.from_string(MICRO)
    exact = {cost: int(count) for cost, count in cost_model(space, "jigsaw").exact(code).items()}
    status, out, err = run(MICRO, "--task", "jigsaw", "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert next(iter(result.items())) == ("schema", "build/1")
    assert result["published"] == exact
    assert (result["space"], result["task"], result["string"]) == ("transnas-micro", "jigsaw", MICRO)
    assert result["code"] == code.tolist()
    assert result["input"] == [1, 9, 64, 64, 3]
    status, line, _ = run(",".join(map(str, code)), "--space", "micro", "--task", "jigsaw")
    assert status == 0
    assert line.count("\n") == 1
    assert f"{exact['params'] / 1e6:.6g} M params, {exact['flops'] / 1e9:.6g} GFLOPs" in line
    status, table, _ = run(MICRO, "--task", "jigsaw", "--summary")
    assert status == 0
    assert table.splitlines()[0] == f"transnas-micro, jigsaw: {MICRO}"
    first = [line.split()[0] for line in table.splitlines()[1:-1]]
    assert first == ["stage", "input", "stem", *["module"] * 5, "head", "all"]
    assert f"{exact['params']:,}" in table


def test_classes_and_side(run) -> None:
    status, out, _ = run("64-1234-basic", "--classes", 10, "--side", 64, "--json")
    assert status == 0
    result = json.loads(out)
    assert result["input"] == [1, 64, 64, 3]
    assert result["stages"][-1]["outputs"] == [[1, 10]]
    assert result["stages"][-1]["params"] == 256 * 10 + 10


def test_exports(run, tmp_path: Path) -> None:
    digits = (MICRO, "--task", "digits/class")
    status, source, err = run(*digits, "--export", "torch")
    assert (status, err) == (0, "")
    compile(source, "network.py", "exec")
    path = tmp_path / "new" / "network.py"
    status, out, err = run(*digits, "--export", "torch", "--out", path, "--json")
    assert (status, path.read_text()) == (0, source)
    assert f"wrote {path}" in err
    result = json.loads(out)
    assert result["export"] == {"format": "torch", "path": str(path)}
    assert f"{result['params']:,}" in source.split('"""')[1]
    status, out, _ = run(*digits, "--export", "flax", "--json")
    assert "from flax import nnx" in json.loads(out)["export"]["source"]


def test_onnx_holds_the_given_weights(run, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    digits, path, weights = (
        (MICRO, "--task", "digits/class", "--export", "onnx"),
        tmp_path / "n.onnx",
        tmp_path / "w.npz",
    )
    status, _, err = run(*digits, "--out", path)
    assert status == 0
    assert "the weights are random" in err
    network = build("transnas-micro", MICRO, "digits/class", key=jax.random.key(5))
    arrays = export_weights(network, "torch", weights)
    status, _, err = run(*digits, "--out", path, "--weights", weights)
    assert status == 0
    assert "random" not in err
    model = onnx.load(path)
    stored = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    for name, array in arrays.items():
        assert (stored[name] == array).all()
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (facts["string"], facts["task"]) == (MICRO, "digits/class")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("64-1111-basic",), "expected an architecture string of transnas-macro, got '64-1111-basic'"),
        (("1,2,3,4,0,0",), "a code of nas-bench-201, transnas-macro; give --space"),
        ((MICRO, "--space", "macro"), "expected an architecture string of transnas-macro"),
        (
            (MICRO, "--task", "video"),
            "networks of transnas-micro have a head for, got 'video'; choose from",
        ),
        ((MICRO, "--side", 20), "at least 32 x 32 pixels"),
        ((MICRO, "--side", 0), "a side of at least 1 pixel, got 0"),
        ((MICRO, "--classes", 1), "classes to be an integer 2 or more, got 1"),
        ((MICRO, "--out", "network.py"), "expected --export with --out"),
        ((MICRO, "--export", "onnx"), "expected --out with --export onnx"),
        ((MICRO, "--export", "flax", "--weights", "w.npz"), "expected --weights with --export onnx, got --export flax"),
        ((MICRO, "--export", "torch", "--out", "."), "expected a file as --out, got the folder ."),
        (
            (MICRO, "--task", "digits/class", "--export", "onnx", "--out", "n.onnx", "--weights", "w.pt"),
            "ends in .safetensors or .npz",
        ),
    ],
)
def test_wrong_usage_is_one_line(run, arguments: tuple, words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("ncp-jax: error: ")
    assert err.count("\n") == 1
    assert words in err
