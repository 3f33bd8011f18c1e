"""The report as a whole: files, page, CSV."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.reports import Report, describe, load_study, write_report
from ncp_jax.reports.curves import MEASURES

MakeStudy = Callable[..., Path]
VOID = {"meta", "img", "line", "br"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a reader sees and what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(build_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A study and its report; the tests leave them as they are."""
    methods = {"random": 0.6, "evolution population=10": 1.0, "evolution population=50": 1.6, "ncp": 2.0}
    folder = build_study(tmp_path_factory.mktemp("made") / "study", methods, times=True)
    return folder, write_report(folder)


def test_files_and_their_names(made: tuple[Path, Report]) -> None:
    folder, report = made
    names = [path.name for path in report.paths]
    assert all(path.parent == folder and path.is_file() for path in report.paths)
    assert names[:6] == ["report.html", "report.json", "summary.csv", "pairs.csv", "curves.csv", "runs.csv"]
    curves = {f"curve-bench-{b}-{k}.png" for b in "ab" for k in ("percentile", "regret")}
    curves |= {f"curve-bench-{b}-seconds-{k}.png" for b in "ab" for k in ("percentile", "regret")}
    assert set(names[6:]) == curves | {"ranks.png", "ranks-queries.png", "settings.png"}
    content = json.loads((folder / "report.json").read_text())
    assert content == report.to_json()
    assert next(iter(content.items())) == ("schema", "report/1")


def test_the_page_stands_alone(made: tuple[Path, Report]) -> None:
    folder, _ = made
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 11
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_the_page_says_what_was_found(made: tuple[Path, Report]) -> None:
    folder, report = made
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert "4 methods on 2 benchmarks, 8 seeds each, 30 queries per run: 64 runs." in text
    assert "ncp has the best average rank" in text
    for words in ("Over all benchmarks", "Friedman's test: χ²(3) =", "critical difference", "6 pairs of methods"):
        assert words in text
    for words in ("Run card", "jax 0.10.2", "1 × cpu (2 cores, x86_64)", "0 to 7 (8)", "Best-practice checklist"):
        assert words in text
    for words in ("evolution: population", "Anytime curves", "runs ended without the optimum"):
        assert words in text
    for about in report.to_json()["run_card"]["tables"].values():
        assert about["hash"] in text
    assert "nan" not in re.findall(r"[a-z]+", text.lower())


def test_the_same_records_give_the_same_bytes(made: tuple[Path, Report], tmp_path: Path) -> None:
    folder, report = made
    again = write_report(folder, tmp_path / "again")
    for old, new in zip(report.paths, again.paths, strict=True):
        assert old.read_bytes() == new.read_bytes(), old.name


def test_the_order_of_records_does_not_matter(made: tuple[Path, Report], tmp_path: Path) -> None:
    folder, report = shutil.copytree(made[0], tmp_path / "study"), made[1]
    before = {path.name: path.read_bytes() for path in report.paths}
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").unlink()
    (folder / "records-1-of-2.jsonl").write_text("".join(lines[::2][::-1]))
    (folder / "records-2-of-2.jsonl").write_text("".join(lines[1::2]))
    assert {path.name: path.read_bytes() for path in write_report(folder).paths} == before


def test_nothing_else_in_the_folder_is_touched(make_study: MakeStudy) -> None:
    folder = make_study()
    (folder / "summary.json").write_text('{"speed": 1}')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_another_folder_for_the_report(make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study()
    before = {path.name for path in folder.iterdir()}
    report = write_report(folder, tmp_path / "deep" / "out")
    assert {path.parent for path in report.paths} == {tmp_path / "deep" / "out"}
    assert {path.name for path in folder.iterdir()} == before


def test_runs_as_csv(made: tuple[Path, Report]) -> None:
    folder, _ = made
    rows = read_csv(folder / "runs.csv")
    records = {}
    for line in (folder / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        records[record["cell"]] = record
    assert len(rows) == len(records) == 64
    for row in rows:
        record = records[row["cell"]]
        results = record["results"]
        assert (row["method"], row["benchmark"], int(row["seed"])) == tuple(
            record[key] for key in ("method", "benchmark", "seed")
        )
        assert json.loads(row["settings"]) == record["settings"]
        assert int(row["rank"]) == results["ranks"][-1]
        assert float(row["value"]) == pytest.approx(results["values"][-1])
        assert float(row["regret"]) == pytest.approx(results["regrets"][-1], abs=1e-9)
        assert int(row["best_at_query"]) == results["at"][-1]
        assert row["found_optimum"] == str(int(results["ranks"][-1] == 1))
        assert float(row["seconds"]) == results["seconds"]


def test_curves_as_csv(made: tuple[Path, Report]) -> None:
    folder, report = made
    rows = read_csv(folder / "curves.csv")
    assert len(rows) == sum(len(curve.x) for curve in report.curves)
    at = 0
    for curve in report.curves:
        row = rows[at + len(curve.x) - 1]
        assert (row["method"], row["benchmark"], row["axis"]) == (curve.method, curve.benchmark, curve.axis)
        for name in MEASURES:
            assert float(row[name]) == pytest.approx(curve.mean[name][-1])
            assert float(row[f"{name}_high"]) == pytest.approx(curve.high[name][-1])
        at += len(curve.x)
    first = next(row for row in rows if row["axis"] == "seconds")
    assert first["rank"] == "", "not every run has something yet"


def test_summary_and_pairs_as_csv(made: tuple[Path, Report]) -> None:
    folder, report = made
    rows = read_csv(folder / "summary.csv")
    assert [row["benchmark"] for row in rows] == ["all"] * 4 + ["bench/a"] * 4 + ["bench/b"] * 4
    for row in rows[4:]:
        found = report.to_json()["benchmarks"][row["benchmark"]][row["method"]]
        assert float(row["regret"]) == pytest.approx(found["regret"]["mean"])
        assert float(row["queries_to_optimum"]) == pytest.approx(found["queries_to_optimum"]["mean"])
        assert int(row["censored"]) == found["queries_to_optimum"]["censored"]
    pairs = read_csv(folder / "pairs.csv")
    assert len(pairs) == 4 * 6  # over all, by queries, and on two benchmarks
    for row, pair in zip(pairs, report.to_json()["comparison"]["pairs"], strict=False):
        assert (row["a"], row["b"]) == (pair["a"], pair["b"])
        assert float(row["p_holm"]) == pytest.approx(pair["p_holm"])


@pytest.mark.parametrize(
    ("methods", "seeds"),
    [
        ({"random": 1.0}, 1),
        ({"random": 1.0}, 4),
        ({"random": 0.5, "b": 2.0}, 6),
        ({"a": 40.0, "b": 40.0, "c": 40.0}, 3),
    ],
)
def test_small_studies_have_a_page_too(make_study: MakeStudy, methods: dict[str, float], seeds: int) -> None:
    report = write_report(make_study(methods, ("one",), seeds=seeds))
    text = Page(report.paths[0].read_text(encoding="utf-8")).text
    assert "Over all benchmarks" not in text
    assert ("Average ranks" in text) == (len(methods) > 1)
    assert ("Wilcoxon's signed-rank test" in text) == (len(methods) == 2)
    assert describe(report)


def test_an_unfinished_study_says_so(make_study: MakeStudy) -> None:
    folder = make_study()
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:11]) + lines[11][:50])
    report = write_report(folder)
    text = Page(report.paths[0].read_text(encoding="utf-8")).text
    assert "the study is unfinished: 11 of 64 runs" in text
    assert "1 damaged line was dropped" in text
    assert "note: the study is unfinished: 11 of 64 runs" in describe(report)


def hostile(folder: Path) -> str:
    """Puts markup into every name of a study."""
    evil = "<script>alert('x')</script>&\"'"
    study = json.loads((folder / "study.json").read_text())
    text = json.dumps(study).replace("bench/a", json.dumps(evil)[1:-1]).replace('"random"', json.dumps(evil))
    study = json.loads(text)
    for name in study["tables"]:
        study["tables"][name]["metric"] |= {"name": evil, "unit": evil, "split": evil}
        study["tables"][name]["hash"] = evil
    study |= {"command": evil, "repeats": evil, "versions": {evil: evil}, "grid": {evil: evil}}
    (folder / "study.json").write_text(json.dumps(study))
    text = (folder / "records.jsonl").read_text()
    text = text.replace("bench/a", json.dumps(evil)[1:-1]).replace('"random"', json.dumps(evil))
    (folder / "records.jsonl").write_text(text)
    session = {"date": evil, "shard": evil, "device": {"kind": evil}, "versions": {evil: evil + "2"}, "seconds": 1}
    (folder / "sessions.jsonl").write_text(json.dumps(session) + "\n")
    return evil


def test_names_are_text_not_markup(make_study: MakeStudy) -> None:
    folder = make_study({"random": 1.0, f"evolution a={1}": 2.0, f"evolution a={2}": 2.0})
    evil = hostile(folder)
    report = write_report(folder)
    text = report.paths[0].read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script"}
    assert page.text.count(evil) > 20
    assert any(evil in (attributes.get("alt") or "") for _, attributes in page.tags)
    assert "'x')" not in text.replace("&#39;", ""), "also quotes, as attributes need it"
    assert {path.parent for path in report.paths} == {folder}
    assert evil in describe(report)


def test_cells_of_csv_are_quoted(make_study: MakeStudy) -> None:
    folder = make_study({"random": 1.0, 'a, "b"\nc': 2.0})
    write_report(folder)
    assert {row["method"] for row in read_csv(folder / "runs.csv")} == {"random", 'a, "b"\nc'}


def test_many_methods_are_drawn_in_part(make_study: MakeStudy) -> None:
    methods = {f"evolution population={i}": 0.5 + 0.1 * i for i in range(22)}
    report = write_report(make_study(methods, ("one",), seeds=3))
    text = Page(report.paths[0].read_text(encoding="utf-8")).text
    assert "The 10 best of 22 methods by average rank; all are in curves.csv." in text
    assert "Each method is compared with the best one only." in text
    assert len({curve.method for curve in report.curves}) == 22


def test_a_place_that_cannot_be_written(make_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another --out"):
        write_report(make_study(), tmp_path / "file" / "out")


def test_nothing_is_made_of_a_folder_that_is_no_studys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study\.json"):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_table_on_the_terminal(made: tuple[Path, Report]) -> None:
    lines = describe(made[1]).splitlines()
    assert lines[0].split() == ["method", "average", "rank", "final", "rank", "percentile", "to", "optimum", "found"]
    assert len(lines) == 1 + 4 + 1
    assert len({len(line) for line in lines[:5]}) == 1
    assert " *" in lines[4], "the best one has a star"
    assert lines[-1] == "* best mean, ~ not significantly different from it"


def test_load_study_and_write_report_see_the_same(made: tuple[Path, Report]) -> None:
    folder, report = made
    data: Any = load_study(folder)
    assert report.to_json()["runs"] == len(data) == 64
