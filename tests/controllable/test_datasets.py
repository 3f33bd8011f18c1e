"""Published data sets: small files of the same format, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ncp_jax.checks import DataError, MissingError, UsageError
from ncp_jax.controllable.dataset_files import somewhere
from ncp_jax.controllable.datasets import cifar100_arrays, dataset_arrays, nyud_arrays, pascal_arrays
from ncp_jax.controllable.tasks import make_examples, read_examples

SIDE, NAMES = 4, [str(number) for number in range(12)]  # ten for training, two for test
HEIGHT, WIDTH = 12, 16  # each pixel of the result is an area of 3 x 4


def save(path: Path, array: np.ndarray, variable: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".mat":
        savemat(path, {variable: array})
    else:
        Image.fromarray(array).save(path, quality=100, subsampling=0)


def write_lists(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("\n".join(NAMES[:10]) + "\n")
    (folder / "val.txt").write_text("\n".join(NAMES[10:]) + "\n")


def areas(array: np.ndarray) -> np.ndarray:
    """Returns the 3 x 4 areas of an image, ``[4, 4, 12, ...]``."""
    blocks = array.reshape(SIDE, 3, SIDE, 4, *array.shape[2:])
    return blocks.swapaxes(1, 2).reshape(SIDE, SIDE, 12, *array.shape[2:])


def middle(array: np.ndarray) -> np.ndarray:
    return array[1::3, 2::4]


def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns an image and what is known of its pixels."""
    normals = rng.normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    normals[..., 2] += 3
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depth = rng.uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32)
    depth[:3, :4] = depth[5, 5] = 0
    return {
        "image": np.full((HEIGHT, WIDTH, 3), rng.integers(0, 256, 3), np.uint8),
        "classes": rng.integers(0, 41, (HEIGHT, WIDTH)).astype(np.uint8),
        "edge": rng.random((HEIGHT, WIDTH)) < 0.05,
        "depth": depth,
        "normals": normals,
    }


def write_nyud(folder: Path, matlab: bool) -> list[dict[str, np.ndarray]]:
    """Writes NYUD_MT as the later article has it (npy), or as the first has it (mat and pictures)."""
    write_lists(folder / "gt_sets")
    drawn = [draw(np.random.default_rng(int(name))) for name in NAMES]
    for name, one in zip(NAMES, drawn, strict=True):
        save(folder / "images" / f"{name}.jpg", one["image"])
        if matlab:
            save(folder / "segmentation" / f"{name}.mat", one["classes"], "segmentation")
            save(folder / "edge" / f"{name}.png", one["edge"].astype(np.uint8) * 255)
            save(folder / "normals" / f"{name}.jpg", np.rint((one["normals"] + 1) * 127.5).astype(np.uint8))
            save(folder / "depth" / f"{name}.mat", one["depth"], "depth")
        else:
            save(folder / "segmentation" / f"{name}.png", one["classes"])
            for task in ("edge", "normals", "depth"):
                save(folder / task / f"{name}.npy", one[task].astype(np.float32))
    return drawn


@pytest.mark.parametrize("matlab", [False, True])
def test_nyud(tmp_path: Path, matlab: bool) -> None:
    drawn, seen = write_nyud(tmp_path, matlab), []
    arrays = dataset_arrays("NYUD", tmp_path, side=SIDE, progress=lambda *done: seen.append(done))
    assert (seen[0], seen[-1]) == ((1, 12), (12, 12))
    assert arrays["split"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 2]
    for row, one in enumerate(drawn):
        np.testing.assert_allclose(arrays["images"][row], areas(one["image"]).mean(axis=2), atol=3)
        np.testing.assert_array_equal(arrays["seg.labels"][row], middle(one["classes"]).astype(int) - 1)
        np.testing.assert_array_equal(arrays["edge.labels"][row], areas(one["edge"]).any(axis=2))
        depth = np.ma.masked_equal(areas(one["depth"]), 0).mean(axis=2)
        np.testing.assert_allclose(arrays["depth.pixels"][row], depth.filled(np.nan), rtol=1e-5)
        assert np.isnan(arrays["depth.pixels"][row, 0, 0])
        normals = areas(one["normals"]).mean(axis=2)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        np.testing.assert_allclose(arrays["normal.pixels"][row], normals, atol=0.05 if matlab else 1e-5)
    targets = {task: (kind, arrays[f"{task}.{kind}"]) for task, _, kind in (k.partition(".") for k in arrays) if kind}
    kinds = make_examples(arrays["images"], targets, split=arrays["split"]).kinds
    assert {(kind.name, kind.outputs) for kind in kinds} == {("seg", 40), ("edge", 2), ("normal", 3), ("depth", 1)}


def test_the_command_writes_what_training_reads(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    write_nyud(tmp_path / "NYUD_MT", matlab=False)
    out = tmp_path / "nyud.npz"
    status, text, err = command("widths", "data", "nyud", tmp_path / "NYUD_MT", "--side", "4", "--out", out)
    assert (status, f"wrote {out}" in err) == (0, True)
    assert [line.split()[0] for line in text.splitlines()][1:] == [*nyud_arrays(tmp_path / "NYUD_MT", side=SIDE)]
    assert "12 x 4 x 4 x 3" in text
    examples, arrays = read_examples(out), nyud_arrays(tmp_path / "NYUD_MT", side=SIDE)
    np.testing.assert_allclose(examples.images, arrays["images"] / 255, rtol=1e-6)
    assert [target.name for target in examples.kinds] == ["seg", "edge", "normal", "depth"]
    status, text, err = command("widths", "data", "nyu", tmp_path, "--out", out)
    assert (status, text, "did you mean: nyud" in err) == (2, "", True)
    status, text, err = command("widths", "data", "cifar100", tmp_path, "--out", out)
    assert (status, text, "train.bin, got none" in err) == (1, "", True)


def person(parts: dict[str, np.ndarray]) -> dict:
    """Returns a person with its parts; each part has its name and mask."""
    dtype = [("part_name", object), ("mask", object)]
    rows = [(name, mask.astype(np.uint8)) for name, mask in parts.items()]
    return {"class": "person", "class_ind": 15, "mask": np.ones((HEIGHT, WIDTH), np.uint8), "parts": rows, "d": dtype}


def annotation(*objects: dict) -> dict:
    """Returns objects in the structure of PASCAL-Part, for ``savemat``."""
    found = np.zeros((1, len(objects)), [(name, object) for name in ("class", "class_ind", "mask", "parts")])
    for place, thing in enumerate(objects):
        parts = np.array([thing["parts"]], thing["d"]) if thing["parts"] else np.zeros((0, 0))
        found[0, place] = (thing["class"], thing["class_ind"], thing["mask"], parts)
    return {"imname": "x", "objects": found}


def test_pascal(tmp_path: Path) -> None:
    write_lists(tmp_path / "ImageSets" / "Context")
    rng, drawn = np.random.default_rng(0), []
    left = np.arange(WIDTH)[None].repeat(HEIGHT, axis=0) < 8
    for number, name in enumerate(NAMES):
        one = draw(rng)
        one["classes"] = rng.choice(np.array([0, 1, 20, 255], np.uint8), (HEIGHT, WIDTH))
        one["salient"] = rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
        # A wall beside the sky, on which the normals do not count.
        one["context"] = np.where(left, 440, 360).astype(np.uint16)
        drawn.append(one)
        save(tmp_path / "JPEGImages" / f"{name}.jpg", one["image"])
        semseg = tmp_path / "semseg" / ("VOC12" if number % 2 else "pascal-context")
        save(semseg / f"{name}.png", one["classes"])
        save(tmp_path / "pascal-context" / "trainval" / f"{name}.mat", one["context"], "LabelMap")
        save(tmp_path / "normals_distill" / f"{name}.png", np.rint((one["normals"] + 1) * 127.5).astype(np.uint8))
        save(tmp_path / "sal_distill" / f"{name}.png", one["salient"])
        cow = {**person({"hair": left}), "class": "cow", "class_ind": 10}
        things = [person({}), cow] if number == 2 else [cow, person({"hair": left, "rhand": ~left, "torso": left & 0})]
        save(tmp_path / "human_parts" / f"{name}.mat", annotation(*things), "anno")  # type: ignore[arg-type]
    arrays = dataset_arrays("pascal", tmp_path, side=SIDE)
    assert arrays["split"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 2]
    for row, one in enumerate(drawn):
        classes = middle(one["classes"]).astype(int)
        np.testing.assert_array_equal(arrays["seg.labels"][row], np.where(classes == 255, -1, classes))
        np.testing.assert_array_equal(arrays["saliency.labels"][row], middle(one["salient"]) > 127)
        parts = np.where(middle(left), 1, 4) if row != 2 else np.full((SIDE, SIDE), -1)
        np.testing.assert_array_equal(arrays["parts.labels"][row], parts)
        np.testing.assert_array_equal(arrays["edge.labels"][row], np.arange(4) == 1 + np.zeros((4, 1)))
        normals = areas(one["normals"]).mean(axis=2)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        np.testing.assert_allclose(arrays["normal.pixels"][row, :, :2], normals[:, :2], atol=0.01)
        assert np.isnan(arrays["normal.pixels"][row, :, 2:]).all()
    path = tmp_path / "human_parts" / "4.mat"
    whole = path.read_bytes()
    for wrong in (annotation(person({"wing": left})), annotation(person({"hair": left[:3]})), {"imname": "x"}):
        save(path, wrong, "anno")  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"anno.objects with class_ind and parts of shape .12, 16. in .*4.mat"):
            pascal_arrays(tmp_path, side=SIDE)
    path.write_bytes(whole)
    save(tmp_path / "semseg" / "VOC12" / "1.png", np.full((HEIGHT, WIDTH), 21, np.uint8))
    with pytest.raises(DataError, match=r"classes 0 to 20 in .*1.png, got 21 to 21"):
        pascal_arrays(tmp_path, side=SIDE)
    (tmp_path / "semseg" / "VOC12" / "1.png").unlink()
    with pytest.raises(MissingError, match=r"a file .*pascal-context.1.png, got none"):
        pascal_arrays(tmp_path, side=SIDE)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("gt_sets/val.txt", Path.unlink, r"a file .*val.txt, got none; see docs"),
        ("gt_sets/train.txt", lambda path: path.write_text(" \n"), r"names of images in .*train.txt, got none"),
        ("images/3.jpg", Path.unlink, r"a file .*3.jpg, got none"),
        ("images/3.jpg", cut, r"a picture in .*3.jpg, got something else"),
        ("depth/3.npy", Path.unlink, r"a file .*3.npy, got none"),
        ("depth/3.npy", cut, r"an array depth in .*3.npy"),
        ("depth/3.npy", lambda path: np.save(path, np.ones((12, 16, 1))), r"numbers .h, w. in .*got shape .12, 16, 1."),
        ("depth/3.npy", lambda path: np.save(path, np.ones((16, 12))), r"the shape of its image, .12, 16., or a mult"),
        ("depth/3.npy", lambda path: np.save(path, np.array([{}])), r"an array depth in .*pickled objects"),
        ("normals/3.npy", lambda path: np.save(path, np.ones((12, 16))), r"numbers .h, w, 3. in .*got shape .12, 16."),
        ("segmentation/3.png", lambda path: save(path, np.full((12, 16), 41, np.uint8)), r"classes 0 to 40 .*41 to 41"),
    ],
)
def test_nyud_files_that_are_refused(tmp_path: Path, file: str, change: Callable[[Path], object], message: str) -> None:
    write_nyud(tmp_path, matlab=False)
    change(tmp_path / file)
    with pytest.raises((DataError, MissingError), match=message):
        nyud_arrays(tmp_path, side=SIDE)


def test_names_and_sides_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a known data set, got 'nyu'; did you mean: nyud"):
        dataset_arrays("nyu", tmp_path)
    with pytest.raises(UsageError, match="side to be an integer 1 or more, got 0"):
        dataset_arrays("nyud", tmp_path, side=0)
    with pytest.raises(UsageError, match="cifar100 at its own 32 pixels, got a side of 64"):
        dataset_arrays("cifar100", tmp_path, side=64)
    with pytest.raises(MissingError, match=r"a file .*train.bin, got none"):
        dataset_arrays("cifar100", tmp_path)
    (tmp_path / "cifar-100-binary.tar.gz").touch()
    with pytest.raises(MissingError, match=r"a file .*tar.gz.train.bin, got none"):
        dataset_arrays("cifar100", tmp_path / "cifar-100-binary.tar.gz")


@pytest.mark.parametrize("shape", [(11, 7), (12, 16), (3, 40), (2, 3)])
def test_no_edge_is_lost_at_any_size(shape: tuple[int, int]) -> None:
    for place in np.ndindex(shape):
        mask = np.zeros(shape, bool)
        mask[place] = True
        found = somewhere(mask, 5)
        assert found.any()
        if min(shape) >= 5:
            assert found.sum() == 1


def test_cifar100(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fine = rng.permutation(100)  # which coarse class a fine class belongs to is no rule
    drawn = []
    for name, copies in (("train", 5), ("test", 1)):
        rows = np.zeros((100 * copies, 3074), np.uint8)
        rows[:, 1] = rng.permutation(np.tile(np.arange(100), copies))
        rows[:, 0] = fine[rows[:, 1]] // 5
        rows[:, 2:] = rng.integers(0, 256, (len(rows), 3072))
        rows.tofile(tmp_path / f"{name}.bin")
        drawn.append(rows)
    seen = np.concatenate(drawn)[:, 1]
    arrays = cifar100_arrays(tmp_path / "train.bin", tmp_path / "test.bin")
    assert arrays["images"].shape == (600, 32, 32, 3)
    np.testing.assert_array_equal(arrays["images"][-1, 2, 3], drawn[1][-1, 2:].reshape(3, 32, 32)[:, 2, 3])
    assert np.bincount(arrays["split"]).tolist() == [400, 100, 100]
    labels = np.stack([arrays[f"coarse{task}.classes"] for task in range(20)])
    assert ((labels >= 0).sum(axis=0) == 1).all()
    # The labels tell the fine classes of a coarse class apart.
    for task, row in enumerate(labels):
        members = [row[seen == each].tolist() for each in np.flatnonzero(fine // 5 == task)]
        assert members == [[rank] * 6 for rank in range(5)]
    targets = {key.removesuffix(".classes"): ("classes", array) for key, array in arrays.items() if "." in key}
    examples = make_examples(arrays["images"], targets, split=arrays["split"])
    assert {kind.outputs for kind in examples.kinds} == {5}
    np.zeros(3075, np.uint8).tofile(tmp_path / "test.bin")
    with pytest.raises(DataError, match="images of 3074 bytes"):
        cifar100_arrays(tmp_path / "train.bin", tmp_path / "test.bin")
