from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest


class _PlainUnpickler(pickle.Unpickler):
    """The published pickles need nothing but containers, numbers and NumPy arrays."""

    def find_class(self, module, name):
        if module.split(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.fixture(scope="session")
def pickled(mirror):
    """Reads the list of dicts of one NCP file."""
    return lambda name: _PlainUnpickler(io.BytesIO((mirror / "ncp" / name / "trainval.pkl").read_bytes())).load()


@pytest.fixture(scope="session")
def zipped(mirror):
    """Reads {architecture tuple: validation metric} of one task from a NASLib zip."""

    def read(name, task):
        with zipfile.ZipFile(mirror / "naslib" / name) as archive:
            parts = [part for part in archive.namelist() if f"--{task}--" in part and part.endswith(".json")]
            rows = [row for part in parts for row in json.loads(archive.read(part))]
        return {tuple(int(n) for n in row["arch"].strip("()").split(",")): row["val_accuracy"] for row in rows}

    return read
