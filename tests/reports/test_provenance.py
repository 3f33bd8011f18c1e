"""The run card and the checklist."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.reports import load_study
from ncp_jax.reports.provenance import study_card
from ncp_jax.reports.statistics import summarise

MakeStudy = Callable[..., Path]


def change_study(folder: Path, **fields: Any) -> Path:
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | fields))
    return folder


def add_session(folder: Path, **fields: Any) -> Path:
    lines = (folder / "sessions.jsonl").read_text()
    first = json.loads(lines.splitlines()[0])
    (folder / "sessions.jsonl").write_text(lines + json.dumps(first | fields) + "\n")
    return folder


def answers(folder: Path) -> dict[str, tuple[str, str]]:
    found = summarise(load_study(folder)).checklist
    return {item.item: (item.answer, item.evidence) for item in found}


def test_the_card_of_two_sessions(make_study: MakeStudy) -> None:
    folder = make_study()
    other = {"versions": {"jax": "0.11.0"}, "date": "2026-11-25T08:00:00+00:00", "shard": "2/2", "seconds": 100}
    add_session(folder, **other, device={"platform": "gpu", "kind": "H100", "count": 4})
    card = study_card(load_study(folder)).to_json()
    assert card["versions"]["jax"] == "0.10.2"
    assert card["other_versions"] == {"jax": ["0.11.0"]}
    assert card["devices"] == ["1 × cpu (2 cores, x86_64)", "4 × H100"]
    assert (card["sessions"], card["shards"], card["wall_seconds"]) == (2, ["1/1", "2/2"], 112.5)
    assert (card["first"][:10], card["last"][:10]) == ("2026-11-24", "2026-11-25")
    assert card["seeds"] == {"first": 0, "count": 8}
    assert card["tables"]["bench/a"]["split"] == "validation"
    assert card["command"] is None


def test_the_command_may_be_text_or_words(make_study: MakeStudy) -> None:
    folder = make_study()
    add_session(folder, command=["python", "experiments/ablation.py", "grid.toml"])
    assert study_card(load_study(folder)).command == "python experiments/ablation.py grid.toml"
    change_study(folder, command="ncp-jax study grid.toml")
    assert study_card(load_study(folder)).command == "ncp-jax study grid.toml"


def test_the_rule_for_the_same_network(make_study: MakeStudy) -> None:
    folder = make_study()
    assert study_card(load_study(folder)).same_network == "isomorphism"
    change_study(folder, same_network="function")
    assert study_card(load_study(folder)).to_json()["same_network"] == "function"


def test_the_card_of_a_study_that_recorded_little(make_study: MakeStudy) -> None:
    folder = make_study()
    (folder / "sessions.jsonl").unlink()
    study = json.loads((folder / "study.json").read_text())
    for name in ("versions", "grid", "seeds", "repeats", "seconds"):
        del study[name]
    (folder / "study.json").write_text(json.dumps(study))
    card = study_card(load_study(folder)).to_json()
    assert card["versions"] == {}
    assert (card["first"], card["wall_seconds"], card["repeats"], card["grid"]) == (None, None, None, None)
    assert card["seeds"] == {"first": 0, "count": 8}
    found = answers(folder)
    assert found["Versions of the software are recorded, and one throughout"] == ("no", "not recorded")
    assert found["The device is recorded"] == ("no", "not recorded")
    assert found["Wall time of the whole study"] == ("no", "not recorded")


def test_a_study_that_does_well(make_study: MakeStudy) -> None:
    found = answers(make_study(times=True))
    assert {item for item, (answer, _) in found.items() if answer == "no"} == set()
    assert found["Every method may spend the same budget"][1] == "at most 30 of 30 queries a run"
    assert found["Random search is among the methods"] == ("yes", "random")
    assert found["All methods meet the same benchmarks and seeds"] == ("yes", "8 seeds each")
    assert found["Searches are guided by validation values, not by the test set"][0] == "yes"
    assert "16 blocks" in found["Differences are tested for significance"][1]
    left = [item for item, (answer, _) in found.items() if answer == "for the author to state"]
    assert len(left) == 5


def test_a_study_that_does_not(make_study: MakeStudy) -> None:
    folder = make_study({"evolution": 1.0}, seeds=3)
    study = json.loads((folder / "study.json").read_text())
    for table in study["tables"].values():
        table["metric"]["split"] = "test"
        table["hash"] = None
    change_study(folder, tables=study["tables"], cells=10)
    add_session(folder, versions={"jax": "0.9.0"}, device={"kind": "TPU v4"})
    bad = {item for item, (answer, _) in answers(folder).items() if answer == "no"}
    assert bad == {
        "At least 5 repetitions with different seeds",
        "Random search is among the methods",
        "Differences are tested for significance",
        "All runs of the plan are here",
        "Versions of the software are recorded, and one throughout",
        "The data are identified by a hash",
        "One kind of device throughout",
        "Cost of training the architectures asked for",
        "Searches are guided by validation values, not by the test set",
    }


@pytest.mark.parametrize(("seeds", "words"), [(5, "so few cannot show"), (6, "6 blocks")])
def test_too_few_pairs_are_said_to_be(make_study: MakeStudy, seeds: int, words: str) -> None:
    found = answers(make_study(benchmarks=("bench/a",), seeds=seeds))
    assert words in found["Differences are tested for significance"][1]


def test_a_run_beyond_the_budget_is_unfair(make_study: MakeStudy) -> None:
    found = answers(change_study(make_study(), budget=20))
    assert found["Every method may spend the same budget"] == ("no", "at most 30 of 20 queries a run")


def test_an_unknown_split_is_for_the_author(make_study: MakeStudy) -> None:
    folder = make_study()
    study = json.loads((folder / "study.json").read_text())
    study["tables"]["bench/a"]["metric"]["split"] = ""
    change_study(folder, tables=study["tables"])
    answer, evidence = answers(folder)["Searches are guided by validation values, not by the test set"]
    assert answer == "for the author to state"
    assert evidence == "searched and judged on: unknown, validation"


def test_a_judge_from_the_test_split_is_data_that_no_search_saw(make_study: MakeStudy) -> None:
    folder = make_study()
    study = json.loads((folder / "study.json").read_text())
    for table in study["tables"].values():
        table["metric"]["split"] = "test"
    change_study(folder, tables=study["tables"], grid={"metric": None, "judge": "test-accuracy"})
    found = answers(folder)
    guided = found["Searches are guided by validation values, not by the test set"]
    assert guided[0] == "yes"
    assert guided[1].startswith("searched: the table's main metric")
    answer = found["Final architectures are judged on data that no search saw"]
    assert answer == ("yes", "judged by test-accuracy, split: test")
    # Where the test split was searched too, nothing is unseen.
    for table in study["tables"].values():
        table["searched"] = table["metric"]
    change_study(folder, tables=study["tables"])
    found = answers(folder)
    guided = found["Searches are guided by validation values, not by the test set"]
    assert guided[0] == "no"
    assert "of the test split on bench/a" in guided[1]
    assert found["Final architectures are judged on data that no search saw"][0] == "for the author to state"
