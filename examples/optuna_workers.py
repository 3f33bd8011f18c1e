"""Several workers search for an architecture together, through a study of Optuna that a database holds.

    python examples/optuna_workers.py                                              # four workers, one SQLite file
    python examples/optuna_workers.py --storage postgresql://user@host/database    # the same on a server
    python examples/optuna_workers.py --worker --storage URL                       # one more, on another machine

Training is a look at the benchmark that ships with the package: put your own in the place of ``train``. A worker that
is killed loses the trial it works on; the others go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np
import optuna

import ncp_jax as ncp
from ncp_jax.integrations.optuna import NCPSampler, suggest_architecture

TASK = "digits/class"


def train(code: np.ndarray, seconds: float) -> float:
    """Returns the accuracy of an architecture, after some seconds."""
    time.sleep(seconds)
    table = ncp.load_table(TASK)
    row = int(np.flatnonzero((np.asarray(table.codes) == code).all(axis=1))[0])
    return float(table.measured("accuracy")[row])


def work(options: argparse.Namespace) -> None:
    """Trains architectures until the study has enough trials."""
    sampler = NCPSampler(options.searcher, seed=0, initial=8)
    study = optuna.create_study(
        study_name="digits", storage=options.storage, sampler=sampler, direction="maximize", load_if_exists=True
    )
    done = optuna.study.MaxTrialsCallback(options.trials, states=(optuna.trial.TrialState.COMPLETE,))

    def objective(trial: optuna.Trial) -> float:
        return train(suggest_architecture(trial, "transnas-micro"), options.seconds)

    study.optimize(objective, callbacks=[done])


def main() -> None:
    """Starts the workers, waits for them, and prints the best architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="sqlite:///study.db")
    parser.add_argument("--searcher", default="ncp")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a training")
    parser.add_argument("--worker", action="store_true", help="be one worker")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.worker:
        work(options)
        return
    # Before there are workers: two that create the tables of an empty database at once would disturb each other.
    optuna.create_study(study_name="digits", storage=options.storage, direction="maximize", load_if_exists=True)
    workers = [subprocess.Popen([sys.executable, *sys.argv, "--worker"]) for _ in range(options.workers)]
    failed = [worker.wait() for worker in workers]
    study = optuna.load_study(study_name="digits", storage=options.storage)
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    print(f"{len(trials)} trainings by {len(workers)} workers, {sum(map(bool, failed))} of which ended early")
    print(f"best: {study.best_trial.user_attrs['architecture']}, accuracy {study.best_value:.2f} %")


if __name__ == "__main__":
    main()
