"""``ncp-jax build``: what it prints, how it fails."""

from __future__ import annotations

import json
import sys

import pytest

from ncp_jax import cli, cost_model, get_space

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
    assert f"{exact['params'] / 1e6:.6g} M params" in line
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
    ],
)
def test_wrong_usage_is_one_line(run, arguments: tuple, words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("ncp-jax: error: ")
    assert err.count("\n") == 1
    assert words in err
