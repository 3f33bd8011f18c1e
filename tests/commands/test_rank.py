"""``ncp-jax rank`` as its users meet it."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.benchmarks import load_table
from ncp_jax.commands.rank import RankConfig, _source_names

Run = Callable[..., tuple[int, str, str]]
SPACE = get_space("transnas-micro")


@pytest.fixture
def run(command: Run) -> Run:
    return functools.partial(command, "rank")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray, quality: np.ndarray) -> dict[str, Path]:
    """A target of 100 architectures, a source that shares 60 of them, one that shares none; loss = -accuracy."""
    folder, found = tmp_path_factory.mktemp("rank"), {}
    names = SPACE.to_strings(codes)
    for name, values, rows in (
        ("target", quality[0], range(100)),
        ("source", quality[1], range(40, 120)),
        ("apart", quality[1], range(100, 120)),
        ("same", quality[0], range(100)),
        ("fraction", quality[0] / 100, range(100)),
        ("reversed", 1e4 - 3 * quality[0], range(100)),
        ("squared", np.sign(quality[0]) * quality[0] ** 2, range(40, 120)),
        ("rounded", np.round(quality[0], 1), range(100)),
        ("halves", (quality[0] > np.median(quality[0])) * 1.0, range(100)),
        ("near", near_copy(quality[0]), range(100)),
        ("noise", np.random.default_rng(0).normal(size=len(names)), range(100)),
    ):
        found[name] = folder / f"{name}.csv"
        lines = [f"{names[i]},{values[i]!s},{-values[i]!s}" for i in rows]
        found[name].write_text("\n".join(["arch,acc,loss", *lines]) + "\n")
    return found


def near_copy(values: np.ndarray) -> np.ndarray:
    """The same order but for a few neighbours."""
    order = np.argsort(values)
    swapped = values.copy()
    swapped[order[10:30:2]], swapped[order[11:31:2]] = values[order[11:31:2]], values[order[10:30:2]]
    return swapped


OPTIONS = ("--space", "transnas-micro", "--maximize", "acc", "--budget", "6")


def test_from_end_to_end(
    run: Run, files: dict[str, Path], tmp_path: Path, codes: np.ndarray, quality: np.ndarray
) -> None:
    arguments = ("--table", files["target"], "--sources", files["source"], *OPTIONS)
    status, out, err = run(*arguments, "--json", "--out", tmp_path / "new" / "out")
    assert status == 0, err
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert {"best", "rank", "percentile", "regret", "tau", "asked", "order", "solver", "versions", "hashes"} <= set(
        found
    )
    assert next(iter(found.items())) == ("schema", "rank/1")
    assert json.loads((tmp_path / "new" / "out" / "rank.json").read_text()) == found
    assert [line.rsplit("/")[-1] for line in err.splitlines()[-2:]] == ["queries.csv", "rank.json"]

    names, values = SPACE.to_strings(codes[:100]), quality[0, :100]
    assert (found["queries"], found["budget"], len(found["asked"])) == (6, 6, 6)
    paid = [names.index(item["architecture"]) for item in found["asked"]]
    assert len(set(paid)) == 6
    np.testing.assert_allclose([item["value"] for item in found["asked"]], values[paid], rtol=1e-6)
    assert found["best"]["value"] == pytest.approx(values[paid].max())
    assert found["best"]["architecture"] == names[paid[int(np.argmax(values[paid]))]]
    assert found["rank"] == 1 + (values > values[paid].max()).sum()
    assert found["percentile"] == pytest.approx(found["rank"])
    assert found["regret"] == pytest.approx(values.max() - values[paid].max(), abs=1e-5)
    assert sorted(item["architecture"] for item in found["order"]) == sorted(names)
    assert -1 <= found["tau"] <= 1
    assert found["solver"]["weight"] <= found["solver"]["upper_bound"]

    with open(tmp_path / "new" / "out" / "queries.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["architecture"] for line in lines] == [names[i] for i in paid]
    assert [float(line["value"]) for line in lines] == [item["value"] for item in found["asked"]]

    status, text, _ = run(*arguments)
    assert status == 0
    assert "target, acc (maximize): 6 of 100 architectures measured, sources" in text
    assert f"best measured: {found['best']['architecture']}" in text
    assert f"(rank {found['rank']} of 100" in text
    assert f"   1  {found['order'][0]['architecture']}" in text.splitlines()

    down = ("--space", "transnas-micro", "--minimize", "loss", "--budget", "6", "--json")
    status, out, _ = run("--table", files["target"], "--sources", files["source"], *down)
    loss = json.loads(out)
    assert [item["code"] for item in loss["asked"]] == [item["code"] for item in found["asked"]]
    assert loss["best"]["value"] == -found["best"]["value"]
    assert loss["metric"] == {"name": "loss", "direction": "minimize", "unit": "", "split": ""}
    assert loss["on_test"] is False
    assert loss["warnings"] == []


def test_near_copies_of_the_target_are_warned_of(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("--table", files["target"], "--sources", files["source"], "--sources", files["near"], *OPTIONS)
    status, out, err = run(*arguments, "--budget", 10, "--out", tmp_path / "out")
    assert status == 0, err
    (warning,) = json.loads((tmp_path / "out" / "rank.json").read_text())["warnings"]
    assert "near.csv ranks the measured architectures almost as the target does (rank correlation" in warning
    assert f"warning: {warning}" in out.splitlines()


def test_a_source_of_noise_is_left_out_and_said_so(run: Run, files: dict[str, Path]) -> None:
    def found(*sources: str) -> dict[str, Any]:
        given = [part for name in sources for part in ("--sources", files[name])]
        status, out, err = run("--table", files["target"], *given, *OPTIONS, "--json")
        assert status == 0, err
        return json.loads(out)

    none, noise, both = found(), found("noise"), found("noise", "source")
    assert none["source_weights"] is None
    assert (noise["source_weights"], noise["asked"]) == ({str(files["noise"]): 0}, none["asked"])
    (warning,) = noise["warnings"]
    assert "noise.csv was left out: its values cannot be predicted from its architectures" in warning
    assert warning.endswith("(100 measured)")
    assert both["warnings"] == noise["warnings"]
    assert both["source_weights"] == {str(files["noise"]): 0, str(files["source"]): pytest.approx(1)}
    assert both["asked"] == found("source")["asked"]


def refusal(result: tuple[int, str, str]) -> tuple[int, str]:
    """Exit status and the one line of error, behind which nothing stands; nothing else was printed."""
    code, out, err = result
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("ncp-jax: error: ")]
    assert err.rstrip().endswith(line)
    return code, line


@pytest.mark.parametrize(
    ("status", "arguments", "words"),
    [
        (2, "--table transnas-micro/jigsw", "did you mean: transnas-micro/jigsaw"),
        (2, "--table {target} --sources transnas-micro/jigsw", "did you mean: transnas-micro/jigsaw"),
        (2, "--table {target} --budget 101", "expected budget to be an integer in 1..100, got 101"),
        (2, "--table {target} --source-budget 5", "expected --sources with --source-budget, got none"),
        (2, "--table {target} --budget 1", "expected --budget to be an integer 2 or more, got 1; relations need pairs"),
        (2, "--table {target} --seed -1", "expected --seed to be an integer in 0..4294967295, got -1"),
        (2, "--table {target} --sources {target}", "expected sources other than the target, got target"),
        (2, "--table {target} --sources {same}", "expected sources other than the target, got same"),
        (
            2,
            "--table {target} --sources {fraction}",
            "other than the target, got fraction; leave it out: it orders the",
        ),
        (2, "--table {target} --sources {source} --sources {reversed}", "other than the target, got reversed; leave"),
        (2, "--table {target} --sources {squared}", "other than the target, got squared; leave it out"),
        (2, "--table {target} --sources {rounded}", "other than the target, got rounded; leave it out"),
        (2, "--table {target} --sources {halves}", "other than the target, got halves; leave it out"),
        (2, "--table {target} --sources {rounded} --source-budget 5", "other than the target, got rounded; leave it"),
        (1, "--table {target} --sources {apart}", "expected architectures of target in apart, got none"),
        (2, "--table {target} --sources all", "expected --sources FILE.csv … with a CSV table, got all"),
        (2, "--table {target} --sources none --sources {source}", "expected --sources none alone, got more of them"),
        (
            2,
            "--table {target} --sources nas-bench-201/cifar10",
            "expected sources in transnas-micro, got nas-bench-201",
        ),
        (
            2,
            "--table {target} --sources {source} --source-budget 61",
            "from 2 to the 60 architectures that all sources",
        ),
        (2, "--table {target} --sources {source} --source-budget 0", "from 2 to the 60 architectures that all sources"),
        (2, "--table {target} --minimize loss", "expected one of --maximize and --minimize, got both"),
        (2, "--table {target} --maximize ac", "did you mean: acc"),
        (1, "--table {target}.csv", "got no such file; correct the path"),
    ],
)
def test_what_is_refused(
    run: Run, files: dict[str, Path], mirror: Path, status: int, arguments: str, words: str
) -> None:
    options = () if "transnas-micro/jigsw" in arguments and "{" not in arguments else OPTIONS
    code, line = refusal(run(*options, *arguments.format(**files).split()))
    assert code == status
    assert words in line


@pytest.mark.parametrize("options", ["", "--space transnas-micro", "--maximize acc"])
def test_a_csv_file_needs_a_space_and_a_direction(run: Run, files: dict[str, Path], options: str) -> None:
    words = "expected --space and --maximize or --minimize with a CSV file, got less; directions are never guessed"
    code, line = refusal(run("--table", files["target"], *options.split()))
    assert code == 2
    assert words in line


def test_a_place_that_cannot_be_written_is_known_before_the_search(
    run: Run, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("ncp_jax.commands.rank.rank", lambda config: pytest.fail("searched"))
    code, line = refusal(run("--table", files["target"], *OPTIONS, "--out", tmp_path / "file" / "out"))
    assert code == 1
    assert "expected to write" in line


def test_all_stands_for_the_other_tasks(mirror: Path) -> None:
    table = load_table("transnas-micro/jigsaw")
    names = _source_names(RankConfig(table.name, ("all", "transnas-micro/normal")), table)
    assert len(names) == len(set(names)) == 6
    assert table.name not in names
    assert all(name.startswith("transnas-micro/") for name in names)
    table = load_table("nas-bench-201/cifar10")
    assert not any(name.endswith("-ncp") for name in _source_names(RankConfig(table.name, ("all",)), table))


def test_its_queries_and_tables_of_other_forms_are_read_back(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--table", files["target"], *OPTIONS, "--out", out)[0] == 0
    queries = ("--table", out / "queries.csv", "--space", "transnas-micro", "--maximize", "value", "--budget", 3)
    status, text, err = run(*queries, "--json")
    assert status == 0, err
    assert json.loads(text)["metric"]["name"] == "value"
    text = files["target"].read_text()
    (tmp_path / "target.tsv").write_bytes(text.replace(",", "\t").encode("utf-16"))
    forms = ("--seeds", "mean", "--architecture", "arch", "--json")
    status, text, err = run("--table", tmp_path / "target.tsv", *OPTIONS, *forms)
    assert status == 0, err
    assert f"ncp-jax: {tmp_path / 'target.tsv'} read as UTF-16, tab-separated\n" in err
    assert json.loads(text)["notices"] == [f"{tmp_path / 'target.tsv'} read as UTF-16, tab-separated"]
    code, line = refusal(run("--table", files["target"], *OPTIONS, "--seeds", "each"))
    assert (code, "expected a known rule for --seeds, got 'each'" in line) == (2, True)


def test_blank_cells_are_asked_for_until_the_budget_is_used_up(
    run: Run, files: dict[str, Path], tmp_path: Path, codes: np.ndarray, quality: np.ndarray
) -> None:
    """The loop of a user who trains what the command names, and writes the results into the file."""
    names, known, file = SPACE.to_strings(codes[:100]), {}, tmp_path / "mine.csv"
    truth = dict(zip(names, quality[0, :100].tolist(), strict=True))
    options = ("--table", file, "--space", "transnas-micro", "--maximize", "acc", "--budget", 18, "--out", tmp_path)
    sizes, source = [], tmp_path / "source.csv"
    others = zip(names, quality[1, :100], strict=True)
    source.write_text("arch,acc\n" + "".join(f"{name},{x if i % 3 else ''}\n" for i, (name, x) in enumerate(others)))
    while True:
        file.write_text("arch,acc,note\n" + "".join(f"{name},{known.get(name, '')},\n" for name in names))
        status, out, err = run(*options, "--json")
        assert status == 0, err
        found = json.loads(out)
        wanted = [item["architecture"] for item in found["next"]]
        with open(tmp_path / "next.csv", newline="") as lines:
            assert list(csv.reader(lines)) == [["architecture", "acc"], *([name, ""] for name in wanted)]
        assert not set(wanted) & set(known)
        assert (found["rank"], found["regret"], found["tau"], found["queries"]) == (None, None, None, len(known))
        assert sorted(item["architecture"] for item in found["order"]) == sorted(names)
        if not wanted:
            break
        sizes.append(len(wanted))
        known |= {name: truth[name] for name in wanted}
    assert sizes == [3, 4, 4, 4, 3]
    assert found["best"]["value"] == pytest.approx(max(known.values()))
    places = [item["architecture"] for item in found["order"] if item["architecture"] in known]
    assert places == sorted(known, key=lambda name: -known[name])
    assert (tmp_path / "rank.png").stat().st_size > 10_000
    assert "the budget of 18 is used up; raise --budget" in run(*options)[1]
    status, out, err = run(*options, "--budget", 30, "--batch", 3, "--sources", source)
    assert status == 0, err
    assert len(out.split("measure next:\n")[1].split("top of")[0].splitlines()) == 3
    source.write_text("arch,acc\n" + "".join(f"{name},\n" for name in names))
    code, line = refusal(run(*options, "--sources", source))
    assert (code, "got blank cells alone; leave this source out" in line) == (1, True)
