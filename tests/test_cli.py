"""The command line as its users meet it: what it prints, what it writes, how it fails."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import Table, cli, cost_model, get_space
from ncp_jax.training.recipes import ENSEMBLE, RECIPES

from .command_line import SMALL, Run, failure


@pytest.fixture
def run(command: Run) -> Run:
    """Runs ``ncp-jax`` in this process; returns (exit status, stdout, stderr)."""
    return command


def test_help_needs_no_jax() -> None:
    script = (
        "import sys\nsys.argv = ['ncp-jax', 'search', '--help']\nfrom ncp_jax import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n"
        "    print('jax' in sys.modules, end.code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] in ("False 0", "False None")
    for option in ("--task", "--table", "--space", "--maximize", "--codes", "--strategy", "--max-gflops", "--json"):
        assert option in done.stdout
    assert done.stderr == ""


def test_help_lists_the_commands(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    for command in ("search", "cost", "build", "data", "version"):
        assert command in out
    assert run("version")[1].strip().count(".") == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search") / "deep" / "out"


def test_search_prints_and_writes(run: Run, folder: Path) -> None:
    status, out, err = run("search", *SMALL, "--out", folder)
    assert status == 0
    assert "using the predictor that ships with ncp-jax" in err
    header = next(line for line in out.splitlines() if line.split()[:1] == ["rank"])
    assert "mIoU" in header
    assert "GFLOPs" in header
    assert "64 codes × 3 steps" in out
    assert sorted(p.name for p in folder.iterdir()) == ["codes.csv", "result.json", "search.png"]

    result = json.loads((folder / "result.json").read_text())
    fields = {"task", "space", "seed", "versions", "device", "hashes", "timing", "best"}
    assert next(iter(result.items())) == ("schema", "search/1")
    assert fields <= set(result)
    assert (result["task"], result["space"], result["seed"]) == ("nas-bench-mr/seg", "nas-bench-mr", 0)
    assert set(result["timing"]) == {"import_s", "compile_s", "search_s", "code_steps_per_s"}
    assert all(number > 0 for number in result["timing"].values())
    assert result["timing"]["code_steps_per_s"] == pytest.approx(64 * 3 / result["timing"]["search_s"])
    assert {"python", "jax", "ncp-jax"} <= set(result["versions"])
    assert result["device"]["platform"] == "cpu"
    assert all(len(digest) == 64 for digest in result["hashes"].values())
    assert result["hashes"]

    best, space = result["best"], get_space("nas-bench-mr")
    assert {"code", "string", "predicted", "spread", "gflops", "params_m"} <= set(best)
    np.testing.assert_array_equal(space.from_string(best["string"]), best["code"])
    exact = cost_model(space).exact(np.array(best["code"]))
    assert best["gflops"] == pytest.approx(int(exact["flops"]) / 1e9)
    assert best["params_m"] == pytest.approx(int(exact["params"]) / 1e6)
    assert 0 < best["predicted"]["mIoU"] < 100
    assert best["spread"]["mIoU"] > 0
    assert best["string"] in out

    with open(folder / "codes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["distinct"]
    assert rows[0]["string"] == best["string"]
    assert float(rows[0]["mIoU"]) == pytest.approx(best["predicted"]["mIoU"])
    assert float(rows[0]["mIoU_spread"]) == pytest.approx(best["spread"]["mIoU"])
    assert float(rows[0]["gflops"]) == pytest.approx(best["gflops"])
    assert [int(n) for n in rows[0]["code"].split()] == best["code"]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (folder / "search.png").stat().st_size > 10_000


def test_what_a_search_writes_is_a_table(run: Run, folder: Path) -> None:
    if not folder.exists():
        assert run("search", *SMALL, "--out", folder)[0] == 0
    notes: list[str] = []
    path = folder / "codes.csv"
    table = Table.from_csv(path, space="nas-bench-mr", maximize=["mIoU"], minimize=["gflops"], notify=notes.append)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [" ".join(map(str, code)) for code in np.asarray(table.codes).tolist()] == [row["code"] for row in rows]
    np.testing.assert_allclose(table.column("mIoU"), [float(row["mIoU"]) for row in rows], rtol=1e-6)
    assert [metric.split for metric in table.metrics] == ["predicted", ""]
    assert notes == [f"{path}: predictions of a search, not measurements (split \"predicted\"): 'mIoU'"]


def test_the_home_folder_in_paths(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    status, _, err = run("search", *SMALL, "--out=~/out")
    assert status == 0
    assert f"wrote {tmp_path / 'out' / 'codes.csv'}" in err
    assert not Path("~").exists()
    (tmp_path / "w.csv").write_text("0,1\n2,0\n")
    assert run("order", "~/w.csv")[0] == 0
    status, line = failure(run("order", "~nobody-of-that-name/w.csv"))
    assert (status, "expected a home folder, got ~nobody-of-that-name/w.csv" in line) == (2, True)


def test_json_and_the_seed(run: Run, folder: Path) -> None:
    status, out, _ = run("search", *SMALL, "--json")
    assert status == 0
    result = json.loads(out)
    assert result["best"] == json.loads((folder / "result.json").read_text())["best"]
    other = json.loads(run("search", *SMALL, "--json", "--seed", "1")[1])
    assert other["best"]["code"] != result["best"]["code"]
    assert other["seed"] == 1


def test_options_of_the_inversion(run: Run) -> None:
    options = (
        "--confidence",
        1,
        "--discreteness",
        "annealed",
        "--polish",
        1,
        "--restarts",
        1,
        "--precision",
        "bfloat16",
    )
    bounds = ("--bound", "*.num_blocks=1..2", "--bound", "last_channel=..64")
    status, out, err = run("search", *SMALL, "--json", *options, *bounds, "--keep", 70)
    assert status == 0, err
    result = json.loads(out)
    assert result["bounds"] == {"*.num_blocks": [1, 2], "last_channel": [None, 64]}
    asked = {"confidence": 1.0, "discreteness": "annealed", "polish": 1, "restarts": 1, "precision": "bfloat16"}
    assert asked.items() <= result.items()
    space = get_space("nas-bench-mr")
    blocks = [i for i, name in enumerate(space.position_names) if name.endswith("num_blocks")]
    codes = np.array([row["code"] for row in result["top"]])
    assert codes[:, blocks].max() <= 2
    assert codes[:, -1].max() <= 64
    # The polish scored more architectures than there were starts; no more than wanted are kept.
    assert result["scored"] > 64
    assert result["distinct"] == result["keep"] == 70


def test_trust_needs_the_table(run: Run, empty_cache: Path, no_mirror: None) -> None:
    status, line = failure(run("search", *SMALL, "--trust", "1"))
    assert status == 1
    assert "expected the measured table for --trust, got none here; run: ncp-jax data fetch nas-bench-mr/seg" in line


@pytest.mark.parametrize("limit", [2.0, 0.1])
def test_max_gflops(run: Run, limit: float) -> None:
    status, out, _ = run("search", *SMALL, "--json", "--max-gflops", limit)
    assert status == 0
    result = json.loads(out)
    counts = cost_model(get_space("nas-bench-mr")).exact(np.array([row["code"] for row in result["top"]]))["flops"]
    assert (counts <= limit * 1e9).all()
    assert result["max_gflops"] == limit
    assert "flops" not in result["objective"]["minimize"]


@pytest.mark.parametrize(("task", "limit"), [("transnas-macro/jigsaw", 0.2), ("nas-bench-201/imagenet16-120", 0.02)])
def test_max_gflops_of_a_task(run: Run, task: str, limit: float, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on the network of that task: its image, its head."""
    # How well the network predicts does not matter here.
    monkeypatch.setitem(RECIPES, "ensemble", dataclasses.replace(ENSEMBLE, min_steps=0, max_steps=50))
    options = ["--task", task, *SMALL, "--members", 1, "--max-gflops", limit, "--json"]
    tested = ["--on-test"] if task.startswith("nas-bench-201") else []
    status, out, err = run("search", *options, *tested)
    assert status == 0, err
    assert set(json.loads(out)["splits"].values()) == {"test" if tested else "validation"}
    result = json.loads(out)
    space, _, name = task.partition("/")
    model = cost_model(get_space(space), name)
    counts = model.exact(np.array([row["code"] for row in result["top"]]))["flops"]
    assert (counts <= limit * 1e9).all()
    np.testing.assert_allclose([row["gflops"] for row in result["top"]], counts / 1e9)
    assert "flops" not in result["objective"]["minimize"]


def test_cost(run: Run) -> None:
    """One code in two forms: the string of the authors' list, the integers of the code."""
    text = "96_128-1_1_1_48-1_2_1_1_128_8-1_3_1_1_1_8_8_8-1_4_1_1_1_1_8_8_8_8-64"
    space = get_space("nas-bench-mr")
    code = space.from_string(text)
    exact = {cost: int(count) for cost, count in cost_model(space).exact(code).items()}
    status, out, err = run("cost", text, ",".join(map(str, code)), "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["space"], result["task"]) == ("nas-bench-mr", "")
    row = {"code": code.tolist(), "string": space.to_string(code), **exact}
    assert result["codes"] == [row, row]
    assert all(isinstance(result["codes"][0][cost], int) for cost in ("params", "flops"))
    status, out, _ = run("cost", "--space", "nas-bench-mr", text)
    assert status == 0
    title, head, line = out.splitlines()
    assert title == "nas-bench-mr, the table's classifier, whatever the task: 50 classes, image 128×128"
    assert head.split() == ["params", "flops", "architecture"]
    assert line.split() == [str(exact["params"]), str(exact["flops"]), space.to_string(code)]


def test_cost_of_the_tasks_network_is_what_build_counts(run: Run) -> None:
    text = "96_128-1_1_1_48-1_2_1_1_128_8-1_3_1_1_1_8_8_8-1_4_1_1_1_1_8_8_8_8-64"
    counted = json.loads(run("cost", text, "--task", "seg", "--flops-of", "task", "--json")[1])
    built = json.loads(run("build", text, "--task", "seg", "--json")[1])
    assert counted["counted"] == built["counted"] == "the network of seg: 19 classes, image 512×512"
    assert {cost: counted["codes"][0][cost] for cost in ("flops", "params")} == built["published"]
    assert counted["counted"] in run("build", text, "--task", "seg")[1]
    boxes = json.loads(run("cost", text, "--task", "3ddet", "--flops-of", "task", "--json")[1])
    assert boxes["counted"] == "the network of 3ddet: 3 classes, pseudo-image 512×512"
    assert boxes["counted"] in run("build", text, "--task", "3ddet")[1]


def test_cost_of_what_is_no_code(run: Run) -> None:
    status, line = failure(run("cost", "--space", "micro", "0,0,0,0,0,4"))
    assert status == 2
    assert "position 5 (edge 2>3) to be one of 0, 1, 2, 3, got 4" in line
    status, line = failure(run("cost", "--space", "macro", "64-1234-basic", "--task", "video"))
    assert status == 2
    assert "expected a known task of transnas-macro, got 'video'; choose from: class_scene" in line


def test_weights_and_directions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stop(predictor: object, objective: object, **options: object) -> None:
        asked.append((objective, options["codes"], options["config"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("ncp_jax.propagation.propagate", stop)
    goals = ("--maximize", "miou=2", "--minimize", "params=0.25", "--maximize", "aAcc")
    assert run("search", *SMALL, "--strategy", "winner-takes-all", *goals)[0] == 130
    ((objective, codes, config),) = asked
    assert objective.maximize == {"mIoU": 2.0, "aAcc": 1.0}
    assert objective.minimize == {"params": 0.25}
    assert (codes, config.steps, config.strategy) == (64, 3, "winner-takes-all")


def test_an_unknown_option_shows_the_nearest_of_its_command(run: Run) -> None:
    status, _, err = run("search", "--taks", "seg")
    assert (status, "--task STR" in err, "run ncp-jax search --help" in err) == (2, True, True)
    assert "ncp-jax build" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "segg"), "expected a known table, got 'segg'; did you mean: seg"),
        (("--maximize", "mIuO"), "expected a known metric, got 'mIuO'; did you mean: mIoU"),
        (("--maximize", "mIoU=much"), "expected NAME or NAME=WEIGHT, got 'mIoU=much'"),
        (("--maximize", "mIoU=-1"), "expected a weight > 0 for 'mIoU', got -1.0"),
        (("--maximize", "mIoU", "--minimize", "miou"), "expected each metric once, got 'mIoU'"),
        (("--maximize", "mIoU", "--maximize", "MIOU"), "expected each metric once, got 'mIoU' twice"),
        (("--strategy", "winner"), "expected a known strategy, got 'winner'; did you mean: winner-takes-all"),
        (("--codes", "0"), "expected --codes to be an integer 1 or more, got 0"),
        (("--steps", "-1"), "expected steps to be an integer 0 or more, got -1"),
        (("--seed", "-1"), "expected --seed to be an integer in 0..4294967295, got -1"),
        (("--max-gflops", "0"), "expected --max-gflops to be a number > 0, got 0.0"),
        (("--max-gflops", "nan"), "expected --max-gflops to be a number > 0, got nan"),
        (("--max-gflops", "0.000001"), "expected a GFLOPs limit >= "),
        (("--precision", "half"), "expected a known precision, got 'half'; choose from: float32, tf32, bfloat16"),
        (("--discreteness", "annealing"), "expected a known discreteness, got 'annealing'; did you mean: annealed"),
        (("--confidence", "nan"), "expected --confidence to be a number >= 0, got nan"),
        (("--trust", "-1"), "expected --trust to be a number >= 0, got -1.0"),
        (("--polish", "-1"), "expected polish to be an integer 0 or more, got -1; try polish=8"),
        (("--restarts", "-2"), "expected restarts to be an integer 0 or more, got -2"),
        (("--keep", "0"), "expected keep to be an integer 1 or more, got 0"),
        (("--devices", "99"), "expected devices <= 1 (cpu), got 99; ask for fewer"),
        (("--memory-mb", "0.001"), "the least that this search needs, got 0.001; allow more memory"),
        (("--bound", "last_chanel=8..16"), "expected a known position, got 'last_chanel'; did you mean: last_channel"),
        (("--bound", "last_channel=9..15"), "expected 'last_channel' to leave last_channel some of 8, 16, "),
        (("--bound", "last_channel"), "got 'last_channel'"),
        (("--max-gflops", "1", "--bound", "*.num_blocks=4", "--bound", "*.num_channels[*]=128"), "a GFLOPs limit >= "),
        (("--space", "transnas-micro"), "expected --table FILE with --space, got no --table"),
        (("--architecture", "arch"), "expected --table FILE with --architecture, got no --table"),
        (("--seeds", "mode"), "expected a known rule for --seeds, got 'mode'"),
        (("--table", "x.csv", "--maximize", "acc"), "expected --space NAME with --table, got no --space"),
        (
            ("--table", "x.csv", "--space", "micro"),
            "expected --maximize or --minimize COLUMN with --table, got neither; directions are never guessed",
        ),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], words: str) -> None:
    status, line = failure(run("search", *SMALL, *arguments))
    assert status == 2
    assert words in line


def test_options_that_do_not_exist(run: Run) -> None:
    status, _, err = run("search", "--cods", "64")
    assert status == 2
    assert "--cods" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("task", ["transnas-micro/jigsaw", "nas-bench-201/cifar10"])
def test_a_task_without_its_data_names_the_command(run: Run, task: str, empty_cache: Path, no_mirror: None) -> None:
    status, line = failure(run("search", "--task", task))
    assert status == 1
    assert f"ncp-jax data fetch {task}" in line


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, line = failure(run("search", *SMALL, "--out", tmp_path / "file" / "out"))
    assert status == 1
    assert "expected to write" in line


def test_an_interruption(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ncp_jax.commands.search.search", interrupt)
    status, _, err = run("search", *SMALL)
    assert status == 130
    assert err == "ncp-jax: interrupted\n"  # a search keeps nothing


def test_work_is_kept_only_where_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """What Ctrl-C says, at the start of a command and after its first record or file."""
    monkeypatch.setenv("NCP_JAX_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "experiments"))
    script = importlib.import_module("harness.script")
    # A shell's background jobs ignore Ctrl-C, and so would the commands, if the tests are one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    out = tmp_path / "out"
    study, fetch = cli.parse(["study", "grid.toml", "--out", str(out)]), cli.parse(["data", "fetch"])

    def experiment() -> str:
        monkeypatch.setattr(sys, "argv", ["x.py", "--out", str(out)])
        with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as err:
            script.run_main(script.ExperimentConfig, lambda config: signal.raise_signal(signal.SIGINT), "")
        return err.getvalue()

    assert not any(command.keeps_work() for command in (study, fetch, cli.parse(["search"])))
    assert experiment() == "ncp-jax: interrupted\n"
    out.mkdir()
    (out / "records-0-of-1.jsonl").write_text("")
    assert not study.keeps_work()
    (out / "records-0-of-1.jsonl").write_text("{}\n")
    (tmp_path / "data" / "raw" / "ncp").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "ncp" / ".file.lock").write_text("")
    assert not fetch.keeps_work()
    (tmp_path / "data" / "raw" / "ncp" / "file").write_text("x")
    assert study.keeps_work()
    assert fetch.keeps_work()
    assert experiment() == "ncp-jax: interrupted; what was finished is kept\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serch",), "expected a known command, got 'serch'; did you mean: search"),
        (("data", "lst"), "expected a known command of ncp-jax data, got 'lst'; did you mean: list"),
        (("data", "fech", "seg"), "got 'fech'; did you mean: fetch"),
        (("space", "chek", "x.toml"), "got 'chek'; did you mean: check"),
    ],
)
def test_the_nearest_commands_are_named(run: Run, arguments: tuple[str, ...], words: str) -> None:
    status, line = failure(run(*arguments))
    assert (status, words in line) == (2, True), line


def test_commands_of_commands_are_those_that_the_parser_knows() -> None:
    for name in cli.NESTED:
        for chosen in cli.command_class(name).SUBCOMMANDS:
            with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
                cli.parse([name, chosen, "--help"])
            assert chosen in out.getvalue()
