from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import list_tables
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.checks import UsageError
from ncp_jax.reports import describe, write_report
from ncp_jax.spaces import get_space
from ncp_jax.studies import Grid, run_study
from ncp_jax.studies.folder import describe_study
from ncp_jax.studies.grid import grid_of
from ncp_jax.studies.plan import make_plan

LEAST = 'benchmarks = ["transnas-macro/jigsaw"]\n[searchers.random]\n'
OWN = """
benchmarks = ["mine"]
budget = 5
judge = "tested"
[searchers.random]
[tables.mine]
path = "data/mine.csv"
space = "transnas-micro"
maximize = ["acc", "tested"]
minimize = ["train_s"]
test = ["tested"]
"""


def test_the_shortest_grid_has_the_defaults(read: Callable[[str], Grid]) -> None:
    grid = read(LEAST)
    assert grid == Grid({"random": [{}]}, ("transnas-macro/jigsaw",))
    assert (grid.budget, grid.seeds, grid.first_seed, grid.repeats, grid.seconds) == (200, 100, 0, "free", None)
    assert grid.methods() == {"random": ("random", {})}


def test_every_key(read: Callable[[str], Grid]) -> None:
    keys = """
benchmarks = ["transnas-macro/jigsaw", "nas-bench-201"]
budget = 50
seeds = 7
first_seed = 3
repeats = "Counted"
seconds = 1000
seconds_column = "train_s"
metric = "acc"
judge = "tested"
[searchers]
random = {}
"""
    grid = read(keys)
    assert (grid.budget, grid.seeds, grid.first_seed, grid.repeats) == (50, 7, 3, "counted")
    assert (grid.seconds, grid.seconds_column, grid.metric, grid.judge) == (1000.0, "train_s", "acc", "tested")


def test_lists_of_settings_are_all_combined(read: Callable[[str], Grid]) -> None:
    text = LEAST + "[searchers.evolution]\npopulation = [10, 20]\ntournament = [3, 5]\n"
    assert read(text).methods() == {
        "random": ("random", {}),
        "evolution population=10 tournament=3": ("evolution", {"population": 10, "tournament": 3}),
        "evolution population=10 tournament=5": ("evolution", {"population": 10, "tournament": 5}),
        "evolution population=20 tournament=3": ("evolution", {"population": 20, "tournament": 3}),
        "evolution population=20 tournament=5": ("evolution", {"population": 20, "tournament": 5}),
    }


def test_only_what_varies_is_in_a_label(read: Callable[[str], Grid]) -> None:
    text = LEAST + "[searchers.evolution]\npopulation = [10, 20]\ntournament = 3\n"
    assert list(read(text).methods()) == ["random", "evolution population=10", "evolution population=20"]
    assert list(read(LEAST + "[searchers.evolution]\npopulation = 7\n").methods()) == ["random", "evolution"]


def test_alternatives_are_an_array_of_tables(read: Callable[[str], Grid]) -> None:
    alternatives = """
[[searchers.evolution]]
[[searchers.evolution]]
population = [5, 10]
[[searchers.evolution]]
tournament = 2
"""
    found = read(LEAST + alternatives).methods()
    assert list(found) == [
        "random",
        "evolution",
        "evolution population=5",
        "evolution population=10",
        "evolution tournament=2",
    ]
    assert found["evolution tournament=2"] == ("evolution", {"tournament": 2})


def test_names_in_any_case(read: Callable[[str], Grid]) -> None:
    text = 'benchmarks = ["TransNAS-Macro/Jigsaw"]\n[searchers.Local-Search]\nMOVE = "best"\n'
    assert list(read(text).methods()) == ["local-search"]
    assert make_plan(read(text)).methods["local-search"].settings() == {"move": "best"}
    assert list(read(text).load()) == ["transnas-macro/jigsaw"]


def test_a_family_stands_for_its_tables(mirror: Path) -> None:
    grid = Grid({"random": [{}]}, ("Transnas-Macro", "transnas-macro/jigsaw", "imagenet16-120"), budget=3)
    family = [name for name in list_tables() if name.startswith("transnas-macro/")]
    assert list(grid.load()) == [*family, "nas-bench-201/imagenet16-120"]
    # The authors' own measurements of one of them are no data set of their own.
    three = [f"nas-bench-201/{task}" for task in ("cifar10", "cifar100", "imagenet16-120")]
    assert list(Grid({"random": [{}]}, ("nas-bench-201",)).load()) == three


def test_paths_are_relative_to_the_grid_file(
    read: Callable[[str], Grid], folder_of_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_bytes((folder_of_tables / "mine.csv").read_bytes())
    monkeypatch.chdir("/")
    table = read(OWN).load()["mine"]
    assert table.name == "mine"
    assert [(m.name, m.split, m.kind) for m in table.metrics] == [
        ("acc", "", "quality"),
        ("tested", "test", "quality"),
        ("train_s", "", "cost"),
    ]


def test_an_own_table_goes_before_a_published_one(arguments: Callable[[str], dict[str, Any]]) -> None:
    for name in ("seg", "nas-bench-201", "transnas-macro/jigsaw"):
        grid = Grid({"random": [{}]}, (name,), tables={name: arguments("mine")})
        assert {key: len(table) for key, table in grid.load().items()} == {name: 60}


def test_a_grid_survives_json(read: Callable[[str], Grid], make_grid: Callable[..., Grid]) -> None:
    for grid in (read(LEAST), read(OWN), make_grid(seconds=100, judge="tested")):
        assert grid_of(json.loads(json.dumps(grid.to_json()))) == grid
        assert grid_of(json.loads(json.dumps(grid.to_json()))).to_json() == grid.to_json()


def test_seconds_of_a_csv(make_grid: Callable[..., Grid]) -> None:
    """A budget in seconds needs the column's name: a CSV file says nothing of units."""
    plan = make_plan(make_grid(seconds=300, seconds_column="train_s"))
    view = plan.view("mine")
    assert float(view.limit) == 300
    np.testing.assert_array_equal(view.costs, plan.tables["mine"].column("train_s"))
    assert make_plan(make_grid()).view("mine").costs.size == 0
    with pytest.raises(UsageError, match=r"expected one column of training seconds .*, got 0 of them in mine; name it"):
        make_plan(make_grid(seconds=300))
    with pytest.raises(UsageError, match=r"got 'train'; did you mean: train_s"):
        make_plan(make_grid(seconds_column="train"))


def test_a_test_column_judges_and_is_not_searched(make_grid: Callable[..., Grid]) -> None:
    assert make_plan(make_grid(judge="tested")).size == 25
    with pytest.raises(UsageError, match=r"expected a training or validation column .*, got tested of the test split"):
        make_plan(make_grid(metric="tested"))
    assert isinstance(make_plan(make_grid(metric="loss")).view("mine"), QueryView)
    assert make_plan(make_grid(metric="tested", on_test=True)).view("mine").on_test


def test_records_and_report_of_a_search_on_test_values_say_so(
    make_grid: Callable[..., Grid], records: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    small: dict[str, Any] = {"searchers": {"random": [{}]}, "budget": 4, "seeds": 2, "on_test": True}
    for name, changes, tested in (
        ("test", {"metric": "tested"}, True),
        ("judged", {"metric": "tested", "judge": "acc"}, True),
        ("fair", {"judge": "tested"}, False),
    ):
        run_study(make_grid(**small, **changes), tmp_path / name)
        assert all(record.get("on_test", False) is tested for record in records(tmp_path / name))
        study = json.loads((tmp_path / name / "study.json").read_text())
        assert study["grid"]["on_test"] is True
        assert study["tables"]["mine"]["searched"]["split"] == ("test" if tested else "")
        report = write_report(tmp_path / name)
        page, text = (tmp_path / name / "report.html").read_text(), describe(report)
        for shown in (page, text, " ".join(report.notes)):
            assert ("searched on test values: mine" in shown) is tested
        item = next(item for item in report.checklist if item.item.startswith("Searches are guided by validation"))
        assert (item.answer == "no") is tested
        with (tmp_path / name / "summary.csv").open() as file:
            assert {line["searched_split"] for line in csv.DictReader(file)} == {"test" if tested else ""}
        with (tmp_path / name / "runs.csv").open() as file:
            assert {line["searched_split"] for line in csv.DictReader(file)} == {"test" if tested else ""}
    assert "on_test" not in make_grid().to_json()
    with pytest.raises(UsageError, match="expected on_test to be true or false, got 1; write on_test = true"):
        make_grid(on_test=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('benchmarks = ["seg"]\n', "expected searchers in the grid, got none"),
        ("[searchers.random]\n", "expected benchmarks in the grid, got none"),
        ("searchers = 3\n" + LEAST.splitlines()[0], "expected a table for each searcher, got 3"),
        ('benchmarks = "seg"\n[searchers.random]\n', "expected a list of benchmarks, got 'seg'"),
        ("benchmarks = [3]\n[searchers.random]\n", "expected a list of benchmarks, got [3]"),
        ("benchmarks = []\n[searchers.random]\n", "expected at least one benchmark, got none"),
        ('benchmarks = ["seg"]\n[searchers]\n', "expected at least one searcher, got none"),
        ('benchmarks = ["seg"]\n[searchers]\nevolution = []\n', "expected a table of settings for evolution, got []"),
        ('benchmarks = ["seg"]\n[searchers]\nevolution = 3\n', "expected a table of settings for evolution, got 3"),
        ('benchmarks = ["seg"]\n[searchers]\nevolution = [3]\n', "expected a table of settings for evolution, got [3]"),
        (f"budgets = 3\n{LEAST}", "expected a known key of a grid, got 'budgets'; did you mean: budget"),
        (f"budget = 0\n{LEAST}", "expected budget to be an integer in 1.."),
        (f"budget = 2.5\n{LEAST}", "got 2.5; give another budget"),
        (f"budget = true\n{LEAST}", "got True; give another budget"),
        (f'budget = "9"\n{LEAST}', "got '9'; give another budget"),
        (f"budget = [5, 9]\n{LEAST}", "got [5, 9]; give another budget"),
        (f"budget = {10**30}\n{LEAST}", f"got {10**30}; give another budget"),
        (f"seeds = 0\n{LEAST}", "expected seeds to be an integer in 1.."),
        (f"first_seed = -1\n{LEAST}", "expected first_seed to be an integer in 0.."),
        (f"first_seed = {2**31 - 5}\n{LEAST}", "expected seeds below 2**31, got 100 from 2147483643 on"),
        (f'repeats = "once"\n{LEAST}', "expected a known repeats, got 'once'"),
        (f"seconds = 0\n{LEAST}", "expected seconds to be a number > 0, got 0"),
        (f"seconds = inf\n{LEAST}", "expected seconds to be a number > 0, got inf"),
        (f'seconds = "9"\n{LEAST}', "expected seconds to be a number > 0, got '9'"),
        (f"{LEAST}[tables]\nmine = 3\n", "expected a table for each of tables, got {'mine': 3}"),
        (f"tables = [3]\n{LEAST}", "expected a table for each of tables, got [3]"),
        (f"{LEAST}[tables.mine]\npath = 3\n", "expected text for path of table mine, got 3"),
        (f"{LEAST}[tables.mine]\nspace = []\n", "expected text for space of table mine, got []"),
        (f"{LEAST}[tables.mine]\nnotation = 3\n", "expected text for notation of table mine, got 3"),
    ],
)
def test_what_is_wrong_in_the_file(read: Callable[[str], Grid], text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("searchers", "words"),
    [
        ({"evolutoin": [{}]}, "expected a known searcher, got 'evolutoin'; did you mean: evolution"),
        ({"evolution": [{"populaton": 3}]}, "got 'populaton'; did you mean: population"),
        ({"evolution": [{"capacity": 3}]}, "expected a known setting of evolution, got 'capacity'"),
        ({"evolution": [{"population": []}]}, "expected a value for population, got an empty list"),
        ({"evolution": [{"population": "many"}]}, "got 'many'; give another value"),
        ({"evolution": [{"population": 2.5}]}, "to be an integer in 1..100000, got 2.5"),
        ({"evolution": [{"population": 0}]}, "to be an integer in 1..100000, got 0"),
        ({"evolution": [{"population": True}]}, "got True; give another value"),
        ({"evolution": [{"population": float("inf")}]}, "got inf; give another value"),
        ({"evolution": [{"population": float("nan")}]}, "got nan; give another value"),
        ({"evolution": [{"population": 10**400}]}, "give another value"),
        ({"evolution": [{"population": {"a": 1}}]}, "got {'a': 1}; give another value"),
        ({"evolution": [{"population": [[3]]}]}, "got [3]; give another value"),
        ({"local-search": [{"move": "frist"}]}, "got 'frist'; did you mean: first"),
        ({"evolution": [{"population": [10, 10]}]}, "expected methods that differ, got 'evolution"),
        ({"evolution": [{}, {"population": 30}]}, "expected methods that differ, got 'evolution population=30', the"),
        ({"random": [{}], "Random": [{}]}, "expected methods that differ, got 'random', the same as 'random'"),
    ],
)
def test_what_is_wrong_with_searchers(searchers: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        Grid(searchers, ("transnas-macro/jigsaw",)).methods()
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        (
            "nas-bench-202/cifar10",
            "expected a known benchmark, got 'nas-bench-202/cifar10'; did you mean: nas-bench-201",
        ),
        ("nas-bench-202", "did you mean: nas-bench-201"),
        ("jigsaws", "jigsaw"),
        ("mien", "expected a known benchmark, got 'mien'; did you mean: mine"),
    ],
)
def test_unknown_benchmarks(make_grid: Callable[..., Grid], benchmark: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        make_grid(benchmarks=(benchmark,)).load()
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": None}, "expected path of table mine, got none; add it to [tables.mine]"),
        ({"space": None}, "expected space of table mine, got none"),
        ({"space": "transnas-mikro"}, "got 'transnas-mikro'; did you mean: transnas-micro"),
        ({"maximise": ["acc"]}, "expected a known key of table mine, got 'maximise'; did you mean: maximize"),
        ({"maximize": "acc"}, "expected a list of columns for maximize of table mine, got 'acc'"),
        ({"test": [3]}, "expected a list of columns for test of table mine, got [3]"),
        ({"test": ["tesed"]}, "got 'tesed'; did you mean: tested"),
        ({"maximize": ["acq"], "test": []}, "got 'acq'; did you mean: acc"),
        ({"maximize": [], "minimize": [], "test": []}, "expected the direction of at least one metric column"),
    ],
)
def test_what_is_wrong_with_an_own_table(
    arguments: Callable[[str], dict[str, Any]], changes: dict[str, Any], words: str
) -> None:
    given = {key: value for key, value in (arguments("mine") | changes).items() if value is not None}
    with pytest.raises(UsageError) as error:
        Grid({"random": [{}]}, ("mine",), tables={"mine": given}).load()
    assert words in str(error.value)


def test_the_rule_for_the_same_network(make_grid: Callable[..., Grid], read: Callable[[str], Grid]) -> None:
    grid = read(f'same_network = "Function"\n{LEAST}')
    assert (grid.same_network, grid.to_json()["same_network"]) == ("function", "function")
    assert "same_network" not in read(LEAST).to_json()  # studies of before go on
    with pytest.raises(UsageError, match="rule for same_network, got 'topolgy'; did you mean: topology"):
        read(f'same_network = "topolgy"\n{LEAST}')
    with pytest.raises(UsageError, match="rule for the same network in transnas-micro, got 'function'"):
        make_plan(make_grid(same_network="function"))


def test_a_study_with_another_rule(tmp_path: Path) -> None:
    space = get_space("nas-bench-201")
    codes = space.all_codes()[::311]
    lines = [f"{text},{i}" for i, text in enumerate(space.to_strings(codes))]
    (tmp_path / "table.csv").write_text("\n".join(["arch,acc", *lines]))
    own = {"mine": {"path": str(tmp_path / "table.csv"), "space": space.name, "maximize": ["acc"]}}
    plans = {
        rule: make_plan(
            Grid(
                {"random": [{}]}, ("mine",), budget=5, seeds=1, repeats="free-isomorphs", tables=own, same_network=rule
            )
        )
        for rule in space.same_networks
    }
    for rule, plan in plans.items():
        networks = space.networks(codes, rule)
        np.testing.assert_array_equal(plan.view("mine").classes, networks)
        np.testing.assert_array_equal(plan.candidates("mine").classes, networks)
    assert len({plan.cell("mine", "random", 0) for plan in plans.values()}) == 3
    study = describe_study(plans["function"], {})
    assert (study["same_network"], study["grid"]["same_network"]) == ("function", "function")
    assert "same_network" not in describe_study(plans["isomorphism"], {})


def test_a_budget_beyond_the_table(make_grid: Callable[..., Grid]) -> None:
    with pytest.raises(
        UsageError, match=r"expected a budget of queries to be an integer in 1\.\.60, got 61; mine has 60 architectures"
    ):
        make_plan(make_grid(budget=61))
    with pytest.raises(UsageError, match=r"in 1\.\.\d\d, got 60; mine has \d\d networks"):
        make_plan(make_grid(budget=60, repeats="free-isomorphs"))
    assert make_plan(make_grid(budget=61, repeats="counted")).size == 25


def test_columns_that_are_not_there(make_grid: Callable[..., Grid]) -> None:
    for key in ("metric", "judge"):
        with pytest.raises(UsageError, match=r"expected a known metric, got 'ac'; did you mean: acc"):
            make_plan(make_grid(**{key: "ac"}))


def test_tables_that_are_not_here(make_grid: Callable[..., Grid], no_mirror: None, empty_cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run: ncp-jax data fetch transnas-macro/jigsaw"):
        make_grid(benchmarks=("transnas-macro/jigsaw",)).load()
    gone = {"mine": {"path": str(empty_cache / "gone.csv"), "space": "transnas-micro", "maximize": ["acc"]}}
    with pytest.raises(FileNotFoundError, match=r"expected a CSV file at .*gone\.csv, got no such file"):
        make_grid(tables=gone).load()


def test_sources(read: Callable[[str], Grid], make_grid: Callable[..., Grid]) -> None:
    """They are part of the grid's JSON only where they are given."""
    assert not {"sources", "source_budget"} & set(make_grid().to_json())
    grid = read('sources = "All"\nsource_budget = 50\n' + LEAST)
    assert (grid.sources, grid.source_budget) == ("all", 50)
    assert grid_of(grid.to_json()) == grid
    named = read('sources = ["transnas-macro/normal"]\n' + LEAST)
    assert named.to_json()["sources"] == ["transnas-macro/normal"]
    assert grid_of(named.to_json()) == named


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('sources = "al"', "got 'al'; did you mean: all"),
        ("sources = 3", "expected sources to be one of none, one, all, or a list of tables, got 3"),
        ("source_budget = 50", "expected sources with a source_budget, got none; add sources"),
        ('sources = "none"\nsource_budget = 50', "expected sources with a source_budget, got none; add sources"),
        ('sources = "all"\nsource_budget = 1', "expected source_budget to be an integer 2 or more, got 1"),
    ],
)
def test_bad_sources(read: Callable[[str], Grid], text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        read(f"{text}\n{LEAST}")


def test_a_searcher_that_needs_sources(make_grid: Callable[..., Grid]) -> None:
    for sources in (None, "none"):
        with pytest.raises(UsageError, match=r"expected sources in a grid with mean-rank, got none; add sources"):
            make_grid(searchers={"mean-rank": [{}]}, sources=sources).methods()
    assert make_grid(searchers={"mean-rank": [{}]}, sources="all").methods() == {"mean-rank": ("mean-rank", {})}
