from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.commands.cost import cost
from ncp_jax.spaces import cost_model, cost_tasks, get_space


@pytest.mark.parametrize("name", ["nas-bench-mr", "nas-bench-201", "transnas-micro", "transnas-macro"])
def test_a_code_reads_in_both_forms(name: str) -> None:
    space = get_space(name)
    code = space.from_string(space.example)
    np.testing.assert_array_equal(space.read(space.example), code)
    np.testing.assert_array_equal(space.read(",".join(map(str, code))), code)
    np.testing.assert_array_equal(space.read(", ".join(map(str, code))), code)


@pytest.mark.parametrize("name", ["nas-bench-201", "transnas-micro", "transnas-macro"])
def test_the_task_picks_the_network(name: str) -> None:
    space = get_space(name)
    default, *others = cost_tasks(space)
    result = cost(codes=(space.example,), space=name)
    found = result.to_json()
    assert found == cost(codes=(space.example,), space=name, task=default).to_json()
    assert list(found) == ["schema", "space", "task", "counted", "tasks", "codes"]
    assert found["schema"] == "cost/1"
    assert found["task"] == default
    assert found["tasks"] == [default, *others]
    (row,) = found["codes"]
    for task in others:
        (other,) = cost(codes=(space.example,), space=name, task=task.upper()).to_json()["codes"]
        assert other["params"] == int(cost_model(space, task).exact(row["code"])["params"]) != row["params"]
        assert type(other["params"]) is type(other["flops"]) is int
    title, head, line = str(result).splitlines()
    assert title == f"{name}, {cost_model(name, default).counted}"
    assert title.startswith(f"{name}, the network of {default}: ")
    assert head.split() == ["params", "flops", "architecture"]
    assert line.split() == [str(row["params"]), str(row["flops"]), row["string"]]


@pytest.mark.parametrize(
    ("code", "space", "task", "words"),
    [
        ("1,2", "mr", None, r"to be 27 integers, or rows of 27, got shape \(2,\)"),
        ("1,x", "mr", None, "expected a code of nas-bench-mr, 27 integers with commas between them, got '1,x'; or its"),
        ("1,", "mr", None, "got '1,'; or its string: "),
        ("1" * 30 + ",2", "mr", None, r"to be 27 integers, or rows of 27, got shape \(2,\)"),
        ("12-3", "mr", None, "expected an architecture string of nas-bench-mr, got '12-3'"),
        ("", "micro", None, "expected an architecture string of transnas-micro, got ''"),
        ("0,0,0,0,0,-1", "micro", None, r"position 5 \(edge 2>3\) to be one of 0, 1, 2, 3, got -1"),
        ("64-1111-basic", "macro", None, "got '64-1111-basic'"),
        ("0,0,0,0,0,0", "mikro", None, "expected a known space, got 'mikro'; did you mean: micro"),
        ("0,0,0,0,0,0", "nb201", "cifar", "expected a known task of nas-bench-201, got 'cifar'; did you mean: cifar10"),
        ("0,0,0,0,0,0", "nb201", "jigsaw", "expected a known task of nas-bench-201, got 'jigsaw'"),
    ],
)
def test_wrong_usage(code: str, space: str, task: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cost(codes=(code,), space=space, task=task)


def test_no_code() -> None:
    with pytest.raises(UsageError, match="expected at least one code, got none; for example '64-41414-1_02_333'"):
        cost(space="micro")
