"""``ncp-jax order`` as its users meet it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import ordering
from ncp_jax.checks import DataError, UsageError
from ncp_jax.commands import order as study

Run = Callable[..., tuple[int, str, str]]
CYCLE = "name,a,b,c,d\na,0,5,0,0\nb,0,0,4,0\nc,1,0,0,2\nd,0,0,0,0\n"


@pytest.fixture
def run(command: Run) -> Run:
    return functools.partial(command, "order")


@pytest.fixture
def named(tmp_path: Path) -> Path:
    path = tmp_path / "named.csv"
    path.write_text(CYCLE)
    return path


def test_a_person_reads_weight_bound_and_names(run: Run, named: Path) -> None:
    status, out, err = run(named)
    assert (status, err) == (0, "")
    assert "4 elements: weight 11, at most 11 (gap 0.0000%; optimal, bound from exact)" in out
    assert "dropped: 1 edges, 8.333% of the weight; 1 preferences reversed (25.000%); 1 cycles of three" in out
    assert "2 components, the largest of 3" in out
    assert out.endswith("order: a, b, c, d\n")


def test_json_holds_all(run: Run, named: Path) -> None:
    status, out, _ = run(named, "--json", "--seed", 3, "--time-limit", 1)
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert status == 0
    assert next(iter(found.items())) == ("schema", "order/1")
    assert found["file"] == str(named)
    assert (found["order"], found["names"]) == ([0, 1, 2, 3], ["a", "b", "c", "d"])
    assert (found["n"], found["weight"], found["upper_bound"], found["gap"]) == (4, 11, 11, 0)
    assert (found["status"], found["heaviest_dropped"], found["dropped_listed"]) == ("optimal", [[2, 0, 1.0]], 1)
    assert found["cycles"]["triangles"] == 1


def test_long_orders_are_cut_on_the_screen_and_their_edges_in_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "EDGES", 7)
    weights = np.random.default_rng(0).random((30, 30))
    np.save(tmp_path / "a.npy", weights)
    _, out, _ = run(tmp_path / "a.npy", "--time-limit", 0.2)
    assert out.rstrip().endswith(", …")
    assert out.count(",") > 19
    _, out, _ = run(tmp_path / "a.npy", "--time-limit", 0.2, "--json")
    found = json.loads(out)
    assert "names" not in found
    assert found["dropped_listed"] == len(found["heaviest_dropped"]) == 7
    assert found["cycles"]["dropped_edges"] > 7
    listed = [weight for _, _, weight in found["heaviest_dropped"]]
    places = np.argsort(found["order"])
    assert listed == sorted(listed, reverse=True)
    assert all(places[i] > places[j] and weights[i, j] == w for i, j, w in found["heaviest_dropped"])


def test_a_matrix_gives_what_its_file_gives(named: Path) -> None:
    of_file = study.order(named, time_limit=1.0)
    of_matrix = study.order([[0, 5, 0, 0], [0, 0, 4, 0], [1, 0, 0, 2], [0, 0, 0, 0]], time_limit=1.0)
    assert (of_matrix.file, of_matrix.names) == (None, None)
    assert of_file.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(of_matrix.order, of_file.order)
    assert (of_matrix.weight, of_matrix.bound, of_matrix.gap, of_matrix.status) == (11.0, 11.0, 0.0, "optimal")
    assert "file" not in of_matrix.to_json()
    with pytest.raises(UsageError, match="expected finite weights >= 0"):
        study.order([[0, -1], [1, 0]])
    with pytest.raises(UsageError, match="expected a known field of OrderConfig, got 'time'"):
        study.order([[0, 1], [1, 0]], time=1.0)


def test_lolib_text(run: Run, mirror: Path) -> None:
    status, out, _ = run(mirror.parent / "lolib" / "io" / "N-tiw56r54")
    assert status == 0
    assert "56 elements: weight 102948, at most 102948 (gap 0.0000%; optimal" in out


@pytest.mark.parametrize(
    ("content", "options", "status", "text"),
    [
        ("0,1\n-1,0\n", (), 1, "expected finite weights >= 0, got -1.0 at row 1, column 0"),
        ("0,nan\n1,0\n", (), 1, "got nan at row 0, column 1"),
        ("0,inf\n1,0\n", (), 1, "got inf at row 0, column 1"),
        ("0,1,1\n1,0,1\n", (), 1, "expected a square matrix in"),
        ("0,1\n1,0\n", ("--time-limit", "-1"), 2, "expected --time-limit to be a number >= 0, got -1.0"),
        ("0,1\n1,0\n", ("--time-limit", "nan"), 2, "expected --time-limit to be a number >= 0, got nan"),
        ("0,1\n1,0\n", ("--seed", "-3"), 2, "expected --seed to be a number >= 0, got -3"),
        (None, (), 1, "No such file"),
    ],
)
def test_errors_are_one_line(
    run: Run, tmp_path: Path, content: str | None, options: tuple[str, ...], status: int, text: str
) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    found, out, err = run(path, *options)
    assert (found, out) == (status, "")
    assert err.startswith("ncp-jax: error: ")
    assert err.count("\n") == 1
    assert text in err


def test_a_file_is_asked_for(run: Run) -> None:
    status, _, err = run()
    assert status == 2
    assert "PATH" in err


def test_help_loads_no_solver() -> None:
    script = (
        "import sys\nsys.argv = ['ncp-jax', 'order', '--help']\nfrom ncp_jax import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    print({'numba', 'highspy', 'numpy', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    for option in ("--time-limit", "--seed", "--json"):
        assert option in done.stdout


def test_nothing_but_the_result_is_on_standard_output(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "w.csv", np.random.default_rng(0).integers(0, 99, (20, 20)), delimiter=",")
    command = [sys.executable, "-m", "ncp_jax.cli", "order", str(tmp_path / "w.csv"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "optimal"


def test_columns_of_another_order_and_what_was_recognised(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "permuted.csv"
    path.write_bytes(";A;C;B\nA;0;9,5;8\nB;1;7;0\nC;2;0;3\n".encode("utf-16"))
    status, out, err = run(path, "--json")
    found = json.loads(out)
    assert (status, found["weight"], found["names"]) == (0, 24.5, ["A", "B", "C"])
    assert found["recognised"][:2] == ["UTF-16", "semicolon-separated"]
    assert err == (
        f"ncp-jax: {path} read as UTF-16, semicolon-separated, decimal commas, columns put in the order of the rows\n"
    )


def test_edges(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("winner,loser,count\nA,B,8\nA,C,9\nB,C,7\nB,A,1\nC,A,2\nC,B,3\n")
    status, _, err = run(path)
    assert status == 1
    assert "give --edges (edges=True)" in err
    status, out, err = run(path, "--edges")
    assert (status, "weight 24, at most 24" in out) == (0, True)
    assert err == f"ncp-jax: {path} read as UTF-8, comma-separated, 6 edges (winner, loser, count)\n"
    assert study.order(path, edges=True).names == ("A", "B", "C")
    with pytest.raises(UsageError, match="the path of a file with edges, got a matrix"):
        study.order([[0, 1], [1, 0]], edges=True)


def test_masked_weights_are_absent_edges() -> None:
    weights = np.ma.array([[0, 5, 9], [4, 0, 5], [1, 2, 0]], mask=np.zeros((3, 3), bool))
    weights.mask[0, 2] = weights.mask[0, 1] = True
    assert study.order(weights).weight == 4 + 5 + 1
    assert study.order(list(weights)).weight == 4 + 5 + 1
    weights = np.ma.masked_invalid([[np.nan, 5.0], [4.0, np.nan]])
    assert study.order(weights).weight == 5


class Frame:
    """What a data frame of pandas is to this library."""

    index, columns = ("A", "B", "C"), ("A", "C", "B")

    def to_numpy(self) -> np.ndarray:
        return np.array([[0, 9, 8], [1, 7, 0], [2, 0, 3]])


def test_columns_of_a_data_frame_are_matched_by_name() -> None:
    found = study.order(Frame())
    assert (found.weight, found.names) == (24, ("A", "B", "C"))
    assert ordering.order(Frame()).weight == 24
    frame = Frame()
    frame.columns = ("A", "C", "D")
    with pytest.raises(DataError, match="got rows 'B' and columns 'D'"):
        ordering.order(frame)
