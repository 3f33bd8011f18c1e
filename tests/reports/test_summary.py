from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from ncp_jax.analysis.comparison import holm
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.reports import describe, load_study, page
from ncp_jax.reports.report import shown_marks
from ncp_jax.reports.statistics import paired_scores, run_measures, summarise

MakeStudy = Callable[..., Path]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    found = summarise(load_study(folder)).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found, "JSON-ready, without NaN"
    return found


def test_a_benchmarks_numbers_are_those_of_the_records(make_study: MakeStudy) -> None:
    folder = make_study(seeds=40)
    summary = summary_of(folder)
    for benchmark in ("bench/a", "bench/b"):
        for method, found in summary["benchmarks"][benchmark].items():
            some = [r["results"] for r in lines_of(folder) if (r["method"], r["benchmark"]) == (method, benchmark)]
            columns = {
                "final_rank": [r["ranks"][-1] for r in some],
                "percentile": [r["ranks"][-1] / 10 for r in some],
                "regret": [r["regrets"][-1] for r in some],
                "value": [r["values"][-1] for r in some],
                "hypervolume": [r["hypervolume"] for r in some],
            }
            for name, values in columns.items():
                assert found[name]["mean"] == pytest.approx(np.mean(values))
                assert found[name]["n"] == 40
                plain = mean_interval(values, least={"final_rank": 1.0, "value": -np.inf}.get(name, 0.0))
                assert found[name]["low"] == pytest.approx(plain["low"])
                assert found[name]["high"] == pytest.approx(plain["high"])
            queries = found["queries_to_optimum"]
            took = [r["at"][-1] if r["ranks"][-1] == 1 else 30 for r in some]
            assert queries["mean"] == pytest.approx(np.mean(took))
            hits = sum(r["ranks"][-1] == 1 for r in some)
            assert (queries["runs"], queries["found"], queries["censored"]) == (40, hits, 40 - hits)


def test_over_all_benchmarks_each_counts_the_same(make_study: MakeStudy) -> None:
    folder = make_study()
    # Half of the seeds are missing on one benchmark.
    write(folder, [r for r in lines_of(folder) if r["benchmark"] == "bench/a" or r["seed"] < 4])
    summary = summary_of(folder)
    assert summary["notes"] == ["the study is unfinished: 48 of 64 runs"]
    for method, found in summary["methods"].items():
        for name in ("final_rank", "percentile", "regret", "hypervolume", "queries_to_optimum"):
            means = [summary["benchmarks"][b][method][name]["mean"] for b in ("bench/a", "bench/b")]
            assert found[name]["mean"] == pytest.approx(np.mean(means))
            assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
        assert (found["runs"], found["benchmarks"]) == (12, 2)
    assert summary["comparison"]["blocks"] == 12


def test_the_interval_over_benchmarks_is_that_of_the_seeds_means(make_study: MakeStudy) -> None:
    folder = make_study({"random": 1.0}, seeds=6)
    lines = lines_of(folder)
    found = summary_of(folder)["methods"]["random"]
    by_seed = {seed: [r for r in lines if r["seed"] == seed] for seed in range(6)}
    for name, value in (("regret", lambda r: r["regrets"][-1]), ("percentile", lambda r: r["ranks"][-1] / 10)):
        means = [np.mean([value(r["results"]) for r in some]) for some in by_seed.values()]
        plain = mean_interval(means, least=0.0)
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((plain["low"], plain["high"]))
        assert found[name]["n"] == 12  # runs


def test_runs_of_one_seed_count_together(make_study: MakeStudy) -> None:
    """Where the benchmarks repeat each other, more of them tell nothing new, and the interval stays."""
    folder = make_study({"random": 1.0}, ("bench/a", "bench/b"), seeds=5)
    lines = [r for r in lines_of(folder) if r["benchmark"] == "bench/a"]
    copies = [r | {"benchmark": "bench/b", "cell": f"{int(r['cell'], 16) ^ 1:016x}"} for r in lines]
    summary = summary_of(write(folder, lines + copies))
    one, both = summary["benchmarks"]["bench/a"]["random"]["regret"], summary["methods"]["random"]["regret"]
    assert (both["low"], both["high"]) == pytest.approx((one["low"], one["high"]))


def test_marks_are_those_of_signed_ranks_with_holms_correction(make_study: MakeStudy) -> None:
    methods = {"random": 0.4, "b": 1.0, "c": 1.0, "d": 1.0}
    folder = make_study(methods, seeds=25, rows=100_000)
    data = load_study(folder)
    summary = summarise(data).to_json()
    scores, labels, _, left_out = paired_scores(data, run_measures(data)["regret"], 0)
    assert (labels, left_out, scores.shape) == ([0, 1, 2, 3], 0, (25, 4))
    best = int(scores.mean(axis=0).argmin())
    others = [i for i in range(4) if i != best]
    p = holm([wilcoxon(scores[:, i], scores[:, best], method="exact").pvalue for i in others])
    names = list(methods)
    marks = {name: summary["benchmarks"]["bench/a"][name]["regret"]["mark"] for name in names}
    assert marks[names[best]] == "best"
    assert {marks[names[i]] for i in others} == {"tied", ""}
    for i, p_ in zip(others, p, strict=True):
        assert marks[names[i]] == ("tied" if p_ >= 0.05 else "")


def test_hypervolume_is_better_higher_and_absent_where_a_run_lacks_it(make_study: MakeStudy) -> None:
    folder = make_study(seeds=30)
    lines = lines_of(folder)
    summary = summary_of(folder)["benchmarks"]["bench/b"]
    means = {name: found["hypervolume"]["mean"] for name, found in summary.items()}
    assert summary[max(means, key=means.__getitem__)]["hypervolume"]["mark"] == "best"
    del next(r for r in lines if r["benchmark"] == "bench/b")["results"]["hypervolume"]
    found = summary_of(write(folder, lines))
    assert "hypervolume" not in found["benchmarks"]["bench/b"]["random"]
    assert "hypervolume" not in found["methods"]["random"]
    assert "hypervolume" in found["benchmarks"]["bench/a"]["random"]


def test_regret_has_no_mean_over_different_units(make_study: MakeStudy) -> None:
    folder = make_study()
    study = json.loads((folder / "study.json").read_text())
    study["tables"]["bench/b"]["metric"]["unit"] = "dB"
    (folder / "study.json").write_text(json.dumps(study))
    summary = summary_of(folder)
    assert "regret" not in summary["methods"]["random"]
    assert "regret" in summary["benchmarks"]["bench/b"]["random"]


def test_the_comparison_ranks_by_blocks(make_study: MakeStudy) -> None:
    folder = make_study()
    found = summary_of(folder)["comparison"]
    finals = {(r["method"], r["benchmark"], r["seed"]): r["results"]["ranks"][-1] for r in lines_of(folder)}
    methods = list(found["average_rank"])
    ranks = []
    for b in ("bench/a", "bench/b"):
        for seed in range(8):
            row = np.array([finals[m, b, seed] for m in methods])
            ranks.append([(row < x).sum() + ((row == x).sum() + 1) / 2 for x in row])
    assert list(found["average_rank"].values()) == pytest.approx(np.mean(ranks, axis=0))
    assert (found["measure"], found["blocks"], found["left_out"]) == ("percentile", 16, 0)
    assert list(found["by_benchmark"]) == ["bench/a", "bench/b"]
    assert found["by_benchmark"]["bench/a"]["blocks"] == 8
    assert found["over_benchmarks"]["blocks"] == 2
    assert len(found["pairs"]) == 6
    # Skills are far apart: the better ones are never behind random search.
    assert max(found["average_rank"], key=found["average_rank"].__getitem__) == "random"


def test_blocks_that_a_method_lacks_are_left_out(make_study: MakeStudy) -> None:
    folder = make_study()
    write(folder, [r for r in lines_of(folder) if r["method"] != "random" or r["seed"] != 2])
    found = summary_of(folder)["comparison"]
    assert (found["blocks"], found["left_out"]) == (14, 2)


def test_without_common_blocks_there_is_no_comparison(make_study: MakeStudy) -> None:
    folder = make_study()
    write(folder, [r for r in lines_of(folder) if (r["method"] == "random") == (r["seed"] < 4)])
    summary = summary_of(folder)
    assert summary["comparison"] is None
    assert summary["methods"]["random"]["average_rank"] is None


def test_methods_that_have_not_begun_are_left_out(make_study: MakeStudy) -> None:
    folder = make_study()
    write(folder, [r for r in lines_of(folder) if r["searcher"] != "evolution"])
    summary = summary_of(folder)
    assert list(summary["methods"]) == ["random", "local-search"]
    assert list(summary["comparison"]["average_rank"]) == ["random", "local-search"]
    assert summary["comparison"]["critical_difference"] is None


def test_a_benchmark_that_has_not_begun(make_study: MakeStudy) -> None:
    folder = make_study()
    write(folder, [r for r in lines_of(folder) if r["benchmark"] == "bench/a"])
    summary = summary_of(folder)
    assert summary["benchmarks"]["bench/b"] == {}
    assert summary["methods"]["random"]["benchmarks"] == 1
    assert summary["settings"] == []


@pytest.mark.parametrize(
    ("methods", "benchmarks", "seeds"),
    [({"random": 1.0}, ("a",), 1), ({"random": 1.0}, ("a", "b"), 3), ({"random": 1.0, "b": 2.0}, ("a",), 1)],
)
def test_one_of_everything(
    make_study: MakeStudy, methods: dict[str, float], benchmarks: tuple[str, ...], seeds: int
) -> None:
    summary = summary_of(make_study(methods, benchmarks, seeds=seeds))
    assert list(summary["methods"]) == list(methods)
    assert (summary["comparison"] is None) == (len(methods) == 1)
    if seeds == 1:
        found = summary["benchmarks"]["a"]["random"]["regret"]
        assert found["low"] == found["mean"] == found["high"]


def test_nobody_finds_the_optimum(make_study: MakeStudy) -> None:
    summary = summary_of(make_study({"random": 0.2, "b": 0.3}, budget=5, rows=10**7))
    queries = summary["methods"]["b"]["queries_to_optimum"]
    assert (queries["found"], queries["median"], queries["mean"], queries["restricted"]) == (0, None, 5, True)
    assert summary["comparison"]["queries_to_optimum"] is None


def test_everybody_always_finds_it(make_study: MakeStudy) -> None:
    summary = summary_of(make_study({"a": 50.0, "b": 50.0, "c": 50.0}))
    for found in summary["benchmarks"]["bench/a"].values():
        assert found["final_rank"]["mark"] == "best"
        assert not found["queries_to_optimum"]["restricted"]
    assert summary["comparison"]["friedman"]["p"] == 1


def test_not_finding_it_comes_after_all_that_did(make_study: MakeStudy) -> None:
    data = load_study(make_study())
    queries = run_measures(data)["queries_to_optimum"]
    assert set(queries[~data.found]) == {31.0}
    assert queries[data.found].max() <= 30


def test_settings_have_marginal_means(make_study: MakeStudy) -> None:
    grid = {f"evolution population={p} sample={s}": k for p, k in ((5, 0.6), (9, 1.6)) for s in (2, 3)}
    summary = summary_of(make_study({"random": 1.0} | grid, seeds=30))
    population, sample = summary["settings"]
    assert [(e["searcher"], e["setting"], e["balanced"]) for e in summary["settings"]] == [
        ("evolution", "population", True),
        ("evolution", "sample", True),
    ]
    five, nine = population["values"]
    assert (five["value"], five["methods"], five["runs"]) == ("5", 2, 120)
    expected = [summary["methods"][f"evolution population=5 sample={s}"]["percentile"]["mean"] for s in (2, 3)]
    assert five["percentile"]["mean"] == pytest.approx(np.mean(expected))
    assert nine["worse"] is None
    assert five["worse"]["mean"] == pytest.approx(five["percentile"]["mean"] - nine["percentile"]["mean"])
    assert five["worse"]["low"] > 0
    # The samples are equally good: no difference is claimed.
    worse = next(value["worse"] for value in sample["values"] if value["worse"])
    assert worse["low"] <= 0 <= worse["high"]


def test_settings_that_go_together_are_said_to(make_study: MakeStudy) -> None:
    summary = summary_of(make_study({"e a=1 b=1": 1.0, "e a=2 b=2": 1.0, "e a=2": 1.0}))
    assert [effect["balanced"] for effect in summary["settings"]] == [False, False]
    assert [v["value"] for v in summary["settings"][1]["values"]] == ["1", "2", "default"]


def test_a_searcher_without_variants_has_no_settings_table(make_study: MakeStudy) -> None:
    assert summary_of(make_study({"random": 1.0, "e a=1": 1.0}))["settings"] == []


def test_the_same_records_give_the_same_summary(make_study: MakeStudy) -> None:
    folder = make_study()
    assert summary_of(folder) == summary_of(folder)


def test_lead_and_tables_say_the_same_about_differences(make_study: MakeStudy) -> None:
    """The lead names as not different exactly what the tables mark so, where both compare with one method."""
    methods = {"random": 0.4, **{f"m{i}": 0.6 + i / 20 for i in range(1, 8)}}
    report = summarise(load_study(make_study(methods, seeds=15, rows=10**6)))
    assert report.comparison is not None
    found, marks = report.comparison.by_percentile, {n: m.marks["percentile"] for n, m in report.methods.items()}
    (best,) = (name for name, mark in marks.items() if mark == "best")
    tied = {name for name, mark in marks.items() if mark == "tied"}
    assert set(page._not_different(found, best)) == tied
    strict = {pair.b if pair.a == best else pair.a for pair in found.pairs if best in (pair.a, pair.b)}
    assert tied < strict, "some differ"


def test_methods_that_share_the_best_mean_are_not_crowned(make_study: MakeStudy) -> None:
    report = summarise(load_study(make_study({"a": 50.0, "b": 50.0, "c": 0.4}, seeds=4, rows=10**6)))
    shown = shown_marks(report.methods)
    assert {shown[name]["final_rank"] for name in "ab"} == {"shared"}
    text = page.build_page("t", report, {})
    assert "a, b share the best average rank, 1." in text
    assert "1.00 =" in text
    assert "best" not in {shown[name][measure] for name in "ab" for measure in ("percentile", "regret")}
    assert "= shares the best mean" in describe(report)


def test_where_all_share_one_rank_nobody_leads(make_study: MakeStudy) -> None:
    report = summarise(load_study(make_study({"a": 50.0, "b": 50.0}, seeds=4)))
    assert "All methods share one average rank" in page.build_page("t", report, {})
