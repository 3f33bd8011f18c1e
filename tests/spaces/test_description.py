"""Descriptions of spaces: the TOML form, the Python form, expressions, and what is refused."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import (
    FoldedMLP,
    MetricSpec,
    Predictor,
    Table,
    describe_space,
    load_predictor,
    load_space,
    save_predictor,
)
from ncp_jax.checks import DataError, UsageError
from ncp_jax.predictors import Standardisation
from ncp_jax.spaces import ALIASES, SPACES, CostFunction, Position, SpaceDescription, cost_model, get_space
from ncp_jax.spaces.expressions import magnitude
from ncp_jax.spaces.parser import parse
from ncp_jax.spaces.rules import truth_table

TOML = """
name = "mine"
[[position]]
name = "stages"
values = [2, 3, 4]
[[position]]
name = "kernel4"
choices = ["3x3", "5x5", "7x7"]
only_if = "stages >= 4"
[[position]]
name = "learning_rate"
real = [1e-4, 1e-1]
log = true
levels = 64
[[forbid]]
where = "kernel4 == '7x7' and learning_rate > 0.05"
"""
PYTHON = (
    Position("stages", values=(2, 3, 4)),
    Position("kernel4", choices=("3x3", "5x5", "7x7"), only_if="stages >= 4"),
    Position("learning_rate", real=(1e-4, 1e-1), log=True, levels=64),
)
FORBID = ("kernel4 == '7x7' and learning_rate > 0.05",)


pytestmark = pytest.mark.usefixtures("spaces_stay")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(TOML)
    return path


def test_both_forms_make_the_same_space(toml: Path) -> None:
    space = load_space(toml)
    assert (space.name, space.size, space.features) == ("mine", 2 * 64 + 3 * 64 - 7, 5)
    assert SPACES["mine"] is space is get_space("MINE") is get_space(str(toml)) is load_space(toml)
    assert describe_space("mine", PYTHON, forbid=FORBID) is space
    again = SpaceDescription.from_toml(space.description.to_json())
    assert again == space.description
    assert again.digest == space.description.digest
    assert pickle.loads(pickle.dumps(space)) == space


def test_a_name_means_one_description(toml: Path) -> None:
    space = load_space(toml)
    text = TOML.replace("[2, 3, 4]", "[2, 3, 5]")
    toml.write_text(text)
    with pytest.raises(UsageError, match="a name that no other space has, got mine; rename the space, or start anew"):
        load_space(toml)
    assert get_space("mine") is space
    for taken in ("NAS-bench-201", next(iter(ALIASES)).upper()):
        with pytest.raises(UsageError, match="a name that no other space has"):
            describe_space(taken, PYTHON)


def test_tables_and_predictors_of_another_description_are_refused(tmp_path: Path) -> None:
    space = describe_space("twice", PYTHON)
    codes = space.all_codes()[::40]
    table = Table.from_arrays(
        "t", space="twice", codes=codes, values=np.arange(len(codes))[:, None], metrics=[MetricSpec("acc")]
    )
    assert ("space twice", space.digest) in table.hashes
    scale = Standardisation(*(jnp.asarray(end) for end in (space.lower, space.upper, [0.0], [1.0])))
    params = {"w": (jnp.ones((2, space.features, 1)),), "b": (jnp.zeros((2, 1)),)}
    path = save_predictor(tmp_path / "p.npz", Predictor(params, scale, FoldedMLP(log=False), table.metrics, "twice"))
    pickled = pickle.dumps(table)
    np.testing.assert_array_equal(pickle.loads(pickled).codes, codes)
    assert load_predictor(path)[0].space == "twice"
    del SPACES["twice"]
    describe_space("twice", PYTHON[::-1])
    with pytest.raises(DataError, match="codes of the space twice in the pickled table t as it is described here"):
        pickle.loads(pickled)
    with pytest.raises(DataError, match=r"codes of the space twice in .*p\.npz as it is described here"):
        load_predictor(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("[[position]]", "[[position"), "expected TOML in .*space.toml, got something else"),
        (('name = "mine"', 'name = "mine"\nsize = 3'), "space.toml: expected a known key of a space, got 'size'"),
        (("only_if", "onlyif"), "known key of a position, got 'onlyif'; did you mean: only_if"),
        (("[2, 3, 4]", "[]"), "two values or more at position stages, got none"),
        (("[2, 3, 4]", "[2]"), "two values or more at position stages, got 2 alone"),
        (("[2, 3, 4]", "[2, 3, 2]"), "values that differ at position stages, got 2 twice"),
        (("[2, 3, 4]", '["2", "3"]'), "a list of numbers for values at position stages"),
        (("values = [2, 3, 4]", "range = [4, 2]"), r"a range whose lowest is below its highest .*got \[4, 2\]"),
        (
            ("values = [2, 3, 4]", "range = [2, 9]\nstep = 2"),
            "whole steps apart at position stages, got 2..9 by 2.*8 or 10",
        ),
        (("values = [2, 3, 4]", "range = [0, 99999]"), "at most 1024 values at position stages, got 100000"),
        (
            ("values = [2, 3, 4]", "values = [2, 3]\nboolean = true"),
            "one of .* at position stages, got values and boolean",
        ),
        (("values = [2, 3, 4]", ""), "one of values, range, .* at position stages, got none of them"),
        (("values = [2, 3, 4]", "values = [2, 4]\nstep = 2"), "step beside range at position stages"),
        (("[1e-4, 1e-1]", "[0, 1]"), "positive numbers on a logarithmic scale at position learning_rate"),
        (("levels = 64", ""), "levels of position learning_rate to be an integer 2 or more, got None"),
        (('name = "kernel4"', 'name = "STAGES"'), "positions of different names in mine .*got 'STAGES' twice"),
        (('name = "kernel4"', 'name = "in"'), "a position's name of letters, .*got 'in'"),
        (('name = "mine"', ""), "name in the description of a space, got none"),
        (('name = "mine"', 'name = "a b"'), "a space's name of letters, .*got 'a b'"),
        (('name = "mine"', "name = 3"), "a name of a space: 1 to 100 printable characters"),
        (
            ('[[position]]\nname = "stages"', "[[position]]\nnam = 1"),
            "known key of a position, got 'nam'; did you mean: name",
        ),
        (("stages >= 4", "kernel4 == '3x3'"), "conditions without a circle, got kernel4 depends on kernel4"),
        (
            ("levels = 64", "levels = 64\nonly_if = \"kernel4 != '3x3'\"", "stages >= 4", "learning_rate > 0.01"),
            "circle, got ",
        ),
        (("stages >= 4", "stages >= '4'"), "only_if of kernel4: expected two values of one kind at character 8"),
        (("learning_rate > 0.05", "learning_rat > 0.05"), "got 'learning_rat'; did you mean: learning_rate"),
        (("'7x7' and", "'8x8' and"), "a choice of kernel4 at character 9 .*got '8x8'; did you mean"),
        (("where =", "when ="), "known key of a forbidden combination, got 'when'"),
        (("kernel4 == '7x7' and learning_rate > 0.05", "learning_rate >= 0.0001"), "leave a code of mine, got none: "),
    ],
)
def test_files_that_describe_no_space(toml: Path, change: tuple, text: str) -> None:
    content = TOML
    for old, new in zip(change[::2], change[1::2], strict=True):
        assert old in content
        content = content.replace(old, new)
    toml.write_text(content)
    before = dict(SPACES)
    with pytest.raises(DataError, match=text) as caught:
        load_space(toml)
    assert "\n" not in str(caught.value)
    assert before == SPACES


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the description of a space, got no file .*none\.toml"):
        get_space(str(tmp_path / "none.toml"))


POSITIONS = (
    Position("a", values=(1, 2, 4)),
    Position("rate", values=(0.1, 0.2, 0.3)),
    Position("op", choices=("x", "y", "3")),
    Position("on", boolean=True),
    Position("other", choices=("y", "z")),
    Position("w[0].n", range=(0, 3)),
)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a == 2", [0, 1, 0]),
        ("1 < a < 4", [0, 1, 0]),
        ("not a in [1, 4]", [0, 1, 0]),
        ("a not in [1, 4] ", [0, 1, 0]),
        ("-a + 2 * a - 1 <= 1e0", [1, 1, 0]),
        ("(a == 1) or (a == 4 and 1 < 2)", [1, 0, 1]),
        ("a - -1 == 2", [1, 0, 0]),
        ("rate + 0.1 == 0.3", [0, 1, 0]),
        ("rate * 3 == 0.3", [1, 0, 0]),
        ("op == 3", [0, 0, 1]),
        ('op != "x"', [0, 1, 1]),
        ("on", [0, 1]),
        ("not on", [1, 0]),
        ("on == False", [1, 0]),
        ("op == other", [[0, 0], [1, 0], [0, 0]]),
        ("w[0].n>=2", [0, 0, 1, 1]),
        ("w[0].n in[2,3]", [0, 0, 1, 1]),
        ("a == 1 or a == 2 and rate < 0.15", [[1, 1, 1], [1, 0, 0], [0, 0, 0]]),
        ("a * 1000000000000 * 1000000000000 > 1e24", [0, 1, 1]),
    ],
)
def test_expressions(text: str, true: list) -> None:
    node = parse(text, POSITIONS)
    sizes = [len(position.grid) for position in POSITIONS]
    np.testing.assert_array_equal(truth_table(node, POSITIONS, sizes), np.array(true, bool))
    assert magnitude(node, POSITIONS) >= 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "a name, number or text at character 1 of ''"),
        ("a", "a comparison at character 2 .*a .a number. alone"),
        ("a = 2", "at character 3 of 'a = 2', got '='; write == to compare"),
        ("a == 2 && on", "at character 8 .*write and"),
        ("a ==", "at character 5 .*got the end"),
        ("(a == 2", "expected '\\)' at character 8"),
        ("a == 2)", "the end, or and / or at character 7 .*got '\\)'"),
        ("a in 2", r"expected '\[' at character 6"),
        ("a == 'x'", "two values of one kind .*a .a number. and 'x'"),
        ("op < 'x'", "== or != of choices, which have no order at character 4"),
        ("op + 1 == 2", "numbers beside \\+ at character 4"),
        ("on == 1", "two values of one kind .*on .a boolean. and a number"),
        ("x == 2", "the name of a position at character 1 .*got 'x'"),
        ("a == 2 == on", "two values of one kind"),
        ("(a == 2) == on", "numbers or texts beside a comparison"),
        ("__import__('os').system('ls')", "sign at character 17 .*got '.'"),
        ("__import__('os')", "the name of a position at character 1 .*got '__import__'"),
        ("a.__class__ == 2", "the name of a position"),
        ("a ** 2 == 4", "a name, number or text at character 4"),
        ("a == 1e999", "a number of at most 40 digits at character 6"),
        ("a / 2 == 1", "at character 3 .*got '/'"),
        ("-op == 2", "a number behind -"),
        ("not", "a name, number or text at character 4 .*got the end"),
    ],
)
def test_texts_that_are_no_expressions(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        parse(text, POSITIONS)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "(" * 1900,
        "not " * 450,
        "-" * 1900 + "1 == a",
        "a == 1 and " * 150 + "a == 1",
        "9" * 1900,
        "a" * 10**6,
    ],
    ids=["long", "parentheses", "not", "minus", "and", "digits", "name"],
)
def test_hostile_texts_are_refused_at_once(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(UsageError) as caught:
        parse(text, POSITIONS)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - begun < 1


def test_levels_of_real_positions() -> None:
    for low, high, levels, log in (
        (1e-5, 1.0, 64, True),
        (0.0, 0.5, 11, False),
        (-1.5, 2.5, 9, False),
        (1e-3, 2e-3, 1000, True),
    ):
        position = Position("x", real=(low, high), levels=levels, log=log)
        grid = np.array(position.grid)
        exact = np.geomspace(low, high, levels) if log else np.linspace(low, high, levels)
        assert (grid[0], grid[-1]) == (low, high)
        assert (np.abs(grid - exact)[1:-1] <= np.diff(exact)[1:] / 100).all()
        assert [position.digit_of(position.text(digit)) for digit in range(levels)] == [*range(levels)]
    assert Position("x", values=(-2, 0, 2)).codes == (0, 1, 2)
    assert Position("x", values=(0, 2)).codes == (0, 2)
    assert Position("x", values=(2**22, 2**22 + 1)).codes == (0, 1)
    assert Position("x", values=(0.5, 1)).grid == (0.5, 1.0)


def latency(values: dict[str, np.ndarray]) -> np.ndarray:
    return 2.0 * values["stages"] + values["kernel4"]


def test_costs_by_function() -> None:
    """A cost in a unit of its own, FLOPs in GMAC, and functions that return nonsense."""
    where = f"{__name__}:latency"
    costs = (CostFunction("latency_ms", where, "ms"), CostFunction("flops", lambda v: v["stages"] * 0.5, "GMAC"))
    space = describe_space("with-costs", PYTHON, costs=costs)
    model = cost_model(space)
    assert model is cost_model(space, "any")
    codes = np.array([[2, 0, 0], [4, 2, 63]], np.int32)
    assert {name: cost.tolist() for name, cost in model.exact(codes).items()} == {
        "latency_ms": [4.0, 10.0],
        "flops": [10**9, 2 * 10**9],
    }
    assert {name: cost.tolist() for name, cost in model.in_units(codes).items()} == {
        "latency_ms": [4.0, 10.0],
        "flops": [1.0, 2.0],
    }
    relaxed = model.relaxed(space.encode(codes))
    np.testing.assert_array_equal(relaxed["latency_ms"], [4, 10])
    for wrong, text in (
        (lambda v: v["stages"][:1], r"2 finite numbers from the cost c of bad, got shape \(1,\)"),
        (lambda v: v["stages"] * np.nan, "got nan"),
        (lambda v: "many", "2 finite numbers"),
    ):
        bad = describe_space("bad", PYTHON, costs=[CostFunction("c", wrong)])
        with pytest.raises(DataError, match=text):
            cost_model(bad).exact(codes)
        del SPACES["bad"]
    for function, text in (
        ("no.such:thing", "No module named 'no'"),
        ("math:pi", "a function at math:pi"),
        ("math:x", "'x'"),
    ):
        bad = describe_space("bad", PYTHON, costs=[CostFunction("c", function)])
        with pytest.raises(UsageError, match=text):
            cost_model(bad)
        del SPACES["bad"]
    with pytest.raises(UsageError, match=r'"package\.module:function" for the cost c'):
        CostFunction("c", "latency")
