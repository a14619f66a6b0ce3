"""Classes of scan positions, where the classes are known."""

import warnings

import numpy as np
import pytest

import py4DSTEM
from py4DSTEM import DataCube, RunOptions, classify, compare_classes, features, simulate
from py4DSTEM.errors import MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.process.classes.features import FeatureBlock, Features
from py4DSTEM.process.classes.judge import adjusted_rand, silhouettes
from py4DSTEM.process.classes.result import Classes, classes_of

METHODS = ("kmeans", "gmm", "agglomerative", "hdbscan", "nmf")


@pytest.fixture(scope="module")
def metal():
    return simulate.polycrystal((16, 13), (64, 64), grains=4, Q_pixel_size_A=0.047, seed=7)


@pytest.fixture(scope="module")
def grains(metal):
    return features(metal.cube, bin=2, follow_origin=False)


def table(values, shape=None, **words):
    values = np.asarray(values, np.float32).reshape(-1, np.shape(values)[-1])
    block = FeatureBlock("map", "map", values.shape[1:], **{"scale": "none", **words})
    return Features(values, shape or (1, len(values)), (block,))


def blobs(counts, seed=0, width=0.1):
    """Points around corners of a cube, in random order, and the corner of each."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    centers = np.array([[1, 1, 1], [5, 1, 1], [1, 5, 1], [1, 1, 5], [5, 5, 1]], float)
    return centers[truth] + rng.normal(0, width, (len(truth), 3)), truth


# ---- known truth ---------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_grains_are_found(metal, grains, method):
    n = None if method == "hdbscan" else len(np.unique(metal.truth.labels))
    found = classify(grains, method=method, n=n, min_size=8)
    assert adjusted_rand(found.labels, metal.truth.labels) > 0.97
    assert found.n == len(np.unique(metal.truth.labels))
    assert found.sizes.tolist() == sorted(found.sizes, reverse=True)
    assert found.mean_silhouette > 0.3 and found.stability > 0.9
    assert found.history.steps[-1].kind == "classify"
    assert found.report.get("converged", True)


@pytest.mark.parametrize("method", ["pca", "ica"])
def test_components_of_either_sign(method):
    """Two independent signals, mixed: every score is one of them."""
    rng = np.random.default_rng(1)
    signals = rng.uniform(-1, 1, (600, 2)) ** 3
    mixing = np.array([[3.0, 1.0, 0.0], [-1.0, 3.0, 0.0]])  # orthogonal, so that PCA may find it
    signals[:, 1] *= 0.5
    found = classify(table(signals @ mixing), method=method, n=2)
    scores = found.weights[0]
    match = np.abs(np.corrcoef(scores.T, signals.T)[:2, 2:])
    assert np.sort(match.max(axis=1))[0] > 0.99
    assert found.components.shape == (2, 3)
    assert np.abs(found.components[:, 2]).max() < 1e-5


def test_nmf_gives_amounts_that_add_up_to_the_features():
    rng = np.random.default_rng(2)
    spectra = np.array([[4.0, 1, 0, 0, 2], [0, 0, 3, 3, 0]])
    amounts = rng.uniform(0.1, 2, (80, 2))
    amounts[:10, 0], amounts[10:20, 1] = 0, 0
    found = classify(table(amounts @ spectra), method="nmf", n=2)
    order = np.argsort(-np.array([found.components[:, 0]]))[0]
    found_amounts = found.weights[0][:, order]
    np.testing.assert_allclose(found_amounts, amounts * spectra.sum(axis=1), atol=0.05)
    assert (found.labels[0][:20] == np.repeat([order[1], order[0]], 10)).all()


def test_gmm_weights_are_probabilities():
    values, truth = blobs((40, 30, 20), width=0.9)
    found = classify(table(values), method="gmm", n=3, axes=None)
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, rtol=1e-5)
    assert (found.weights.argmax(axis=-1) == found.labels).all()
    assert adjusted_rand(found.labels.ravel(), truth) > 0.8


def test_components_are_the_centres_in_the_unit_of_the_features():
    values, truth = blobs((40, 30, 20))
    found = classify(table(values, scale="standard"), n=3)
    means = np.array([values[truth == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(found.components, means, rtol=1e-4)
    assert found.sizes.tolist() == [40, 30, 20]


def test_hdbscan_leaves_stray_positions_alone():
    values, _ = blobs((60, 50))
    values[7] = 30, -30, 30
    found = classify(table(values), method="hdbscan")
    assert found.n == 2 and found.labels[0, 7] == -1 and found.weights[0, 7].max() == 0


def test_connected_classes_touch():
    """The same values left and right of a stripe are two classes if groups have to touch."""
    image = np.zeros((6, 9, 1))
    image[:, 4] = 5
    image += np.random.default_rng(3).normal(0, 0.01, image.shape)
    three = classify(features(image), method="agglomerative", n=3, connected=True)
    assert three.sizes.tolist() == [24, 24, 6] and three.stability is None
    assert len(np.unique(three.labels[:, :4])) == 1
    two = classify(features(image), method="agglomerative", n=2)
    assert two.sizes.tolist() == [48, 6]


def test_same_seed_same_classes(grains):
    one, two = (classify(grains, n=4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.stability == two.stability


# ---- incremental variants ------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["kmeans", "nmf", "pca", "ica"])
def test_little_memory_gives_nearly_the_same(method):
    """More positions than are worked on at once, and than fit into memory."""
    rng = np.random.default_rng(11)
    signals = rng.gamma(0.4, 1, (9000, 3)) * (3, 2, 1)
    spectra = np.array([[1, 4, 0, 0, 2, 1], [0, 1, 5, 3, 0, 0], [2, 0, 0, 1, 0, 6.0]])
    mixed = table(signals @ spectra + rng.random((9000, 6)) * 0.05, (90, 100))
    few, whole = (
        classify(mixed, method=method, n=3, stability_runs=0, options=RunOptions(memory=memory))
        for memory in (100_000, "1 GB")
    )
    assert adjusted_rand(few.labels, whole.labels) > 0.97
    match = np.corrcoef(few.weights.reshape(-1, 3).T, whole.weights.reshape(-1, 3).T)[:3, 3:]
    np.testing.assert_allclose(np.abs(match).max(axis=1), 1, atol=0.01)
    if method == "nmf":
        truth = (signals * spectra.sum(axis=1)).argmax(axis=1)
        assert adjusted_rand(few.labels.ravel(), truth) > 0.97


def test_nmf_in_parts_finds_grains(metal, grains):
    found = classify(grains, method="nmf", n=4, options=RunOptions(memory=100_000))
    assert adjusted_rand(found.labels, metal.truth.labels) > 0.97


def test_agglomerative_says_what_to_do_with_too_many_positions():
    values = np.random.default_rng(0).random((400, 2))
    with pytest.raises(MemoryBudgetError, match="connected=True"):
        classify(table(values), method="agglomerative", n=3, options=RunOptions(memory=100_000))
    found = classify(
        table(values, (20, 20)), method="agglomerative", n=3, connected=True,
        options=RunOptions(memory=100_000),
    )  # fmt: skip
    assert found.n == 3


# ---- judgement -----------------------------------------------------------------------------------
def test_silhouettes_and_rand_are_those_of_scikit_learn():
    from sklearn.metrics import adjusted_rand_score, silhouette_samples

    rng = np.random.default_rng(4)
    points = rng.random((70, 3)).astype(np.float32)
    labels = rng.integers(0, 4, 70)
    labels[labels == 3] = 5
    ours = silhouettes(points, labels, sample=100, seed=0)
    np.testing.assert_allclose(ours, silhouette_samples(points, labels), atol=1e-5)
    other = rng.integers(0, 3, 70)
    assert adjusted_rand(labels, other) == pytest.approx(adjusted_rand_score(labels, other))


def test_silhouettes_of_samples_of_single_points_and_of_no_class():
    values, truth = blobs((400, 300, 1))
    points = values.astype(np.float32)
    whole = silhouettes(points, truth, sample=1000, seed=0)
    part = silhouettes(points, truth, sample=40, seed=0)
    np.testing.assert_allclose(part[truth < 2], whole[truth < 2], atol=0.02)
    assert part[truth == 2] == 0
    truth[:5] = -1
    assert np.isnan(silhouettes(points, truth, sample=40, seed=0)[:5]).all()
    assert np.isnan(silhouettes(points, np.zeros(701, int), sample=40, seed=0)).all()


def test_noise_alone_is_not_stable():
    noise = np.random.default_rng(5).normal(size=(300, 6))
    found = classify(table(noise), n=5)
    assert found.stability < 0.6 and found.mean_silhouette < 0.25


def test_the_number_of_classes_is_suggested():
    values, _ = blobs((50, 40, 30, 20), width=0.4)
    found = py4DSTEM.suggest_classes(table(values), (2, 6))
    assert found.best == 4 and found.n.tolist() == [2, 3, 4, 5, 6]
    assert found.stability[2] > 0.95 and np.isnan(found.bic).all()
    assert found.smallest[2] == 20 and "4 suggested" in found.text()
    mixtures = py4DSTEM.suggest_classes(table(values), (3, 5), method="gmm")
    assert mixtures.bic.argmin() == 1


# ---- masked, empty, wrong ------------------------------------------------------------------------
def test_unknown_positions_are_not_classified_or_filled():
    values, truth = blobs((40, 30))
    values[3] = np.nan
    values[8, 2] = np.nan
    masked = classify(table(values), n=2)
    assert (masked.labels[0, [3, 8]] == -1).all() and masked.sizes.sum() == 68
    assert np.isnan(masked.weights[0, 3]).all() and np.isnan(masked.silhouette[0, 3])
    filled = classify(table(values), n=2, missing="median")
    assert (
        filled.labels[0, 3] == -1 and filled.labels[0, 8] == filled.labels[0, truth == truth[8]][1]
    )
    assert "not classified: 2" in masked.text()


def test_fewer_different_positions_than_classes():
    """Three kinds of points make three classes, whatever is asked for, and no warning."""
    values = np.repeat([[0.0, 1], [5, 1], [0, 9]], [5, 4, 3], axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = classify(table(values), n=5, stability_runs=0)
    assert found.n == 3 and found.sizes.tolist() == [5, 4, 3]
    assert found.report["empty classes left out"] == 2


def test_positions_without_any_intensity_belong_to_no_component():
    values = np.random.default_rng(6).random((30, 4))
    values[11] = 0
    found = classify(table(values), method="nmf", n=2)
    assert found.labels[0, 11] == -1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n": 7}, "7 classes of 6 positions"),
        ({}, "needs n"),
        ({"method": "nmf"}, "needs n"),
        ({"method": "nmf", "n": 3}, "at most 2 components"),
        ({"method": "nmf", "n": 2}, "not negative"),
        ({"method": "pca", "n": 6}, "at most 2"),
        ({"method": "hdbscan", "min_size": 9}, "min_size=9"),
        ({"method": "best", "n": 2}, "method"),
        ({"n": 0}, "n"),
    ],
)
def test_wrong_parameters(parameters, words):
    values = np.random.default_rng(7).normal(size=(6, 2))
    with pytest.raises(ParameterError, match=words):
        classify(table(values), **parameters)


def test_hdbscan_of_what_has_no_groups():
    with pytest.raises(ParameterError, match="no group"):
        classify(table(np.random.default_rng(8).random((30, 6))), method="hdbscan", min_size=14)


def test_one_class_has_no_silhouette():
    found = classify(table(np.random.default_rng(9).random((30, 2))), n=1)
    assert found.n == 1 and found.stability is None and np.isnan(found.mean_silhouette)


def test_only_features_are_classified(metal):
    with pytest.raises(ParameterError, match="Features"):
        classify(metal.cube, n=2)


# ---- the value -----------------------------------------------------------------------------------
def test_classes_are_numbered_by_size_and_keep_their_parts():
    labels = np.array([[2, 2, 2, 0, 0, -1, 1]])
    found = classes_of(labels, names=("a", "b", "c"), components=np.diag([1.0, 2, 3]))
    assert found.names == ("c", "a", "b") and found.labels.tolist() == [[0, 0, 0, 1, 1, -1, 2]]
    assert np.diag(found.components[:, [2, 0, 1]]).tolist() == [3, 1, 2]
    assert found.sizes.tolist() == [3, 2, 1] and found.index("b") == 2
    assert found.mask("a").tolist() == [[False] * 3 + [True] * 2 + [False] * 2]
    assert np.isnan(found.label_map.data[0, 5]) and found.weight_maps.shape == (3, 1, 7)


def test_labels_and_parts_have_to_fit():
    weights = np.zeros((1, 3, 2), np.float32)
    labels = np.array([[0, 1, 0]], np.int32)
    with pytest.raises(ParameterError, match="between -1 and 1"):
        Classes(labels + 1, weights)
    with pytest.raises(ShapeError, match="labels"):
        Classes(labels[:, :2], weights)
    with pytest.raises(ShapeError, match="components"):
        Classes(labels, weights, components=np.zeros((3, 4)))
    with pytest.raises(ParameterError, match="different names"):
        Classes(labels, weights, ("a", "a"))
    found = Classes(labels, weights)
    with pytest.raises(ParameterError, match="no class 'x'"):
        found.mask("x")
    with pytest.raises(ParameterError, match="class_patterns"):
        found[0]
    with pytest.raises(ParameterError, match="each of 2 classes once"):
        found.reordered([0, 0])


# ---- class patterns ------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_class_patterns_are_the_means_of_their_positions(dtype):
    data = np.random.default_rng(1).integers(0, 99, (5, 6, 7, 9)).astype(dtype)
    labels = np.random.default_rng(2).integers(-1, 3, (5, 6))
    found = py4DSTEM.class_patterns(DataCube(data), labels, options=RunOptions(memory="20 kB"))
    for k in range(3):
        expected = data[labels == k].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(found.patterns[k], expected, rtol=1e-12)
    assert found["class 2"].shape == (7, 9)


def test_a_class_without_positions_has_no_pattern_and_dead_pixels_do_not_count():
    data = np.ones((2, 2, 3, 4), np.float32)
    data[0, 0, 1, 1] = np.nan
    one = np.array([[0, 0], [0, -1]])
    classes = classes_of(one, np.stack([one == 0, np.zeros((2, 2))], axis=-1))
    found = DataCube(data).class_patterns(classes)
    assert (found.patterns[0] == 1).all() and np.isnan(found.patterns[1]).all()


def test_patterns_of_other_scans_and_labels_that_are_none():
    cube = DataCube(np.ones((2, 3, 4, 4), np.uint8))
    with pytest.raises(ShapeError, match=r"\(3, 2\)"):
        cube.class_patterns(np.zeros((3, 2), int))
    with pytest.raises(ParameterError, match="whole numbers"):
        cube.class_patterns(np.zeros((2, 3)))
    with pytest.raises(ParameterError, match="packed"):
        py4DSTEM.ClassPatterns(classes={"shape": [2, 3], "zlib_i4": "!", "names": []})


def test_the_history_of_patterns_holds_the_classes(grains, metal):
    classes = classify(grains, n=4, stability_runs=0)
    found = metal.cube.class_patterns(classes)
    kinds = [step.kind for step in found.history.steps]
    assert kinds[-3:] == ["features", "classify", "class-patterns"]
    again = py4DSTEM.ClassPatterns(**found.history.steps[-1].parameters)
    np.testing.assert_array_equal(again.classes.labels, classes.labels)


# ---- reference data ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "least"),
    [("kmeans", 0.99), ("agglomerative", 0.99), ("hdbscan", 0.98), ("gmm", 0.95)],
)
def test_two_phases_in_carbon(twophase, method, least):
    """Defaults, after repairing the pixels that the package itself finds to be hot."""
    table, truth, pure = twophase
    found = classify(table, method=method, n=None if method == "hdbscan" else 6)
    assert found.n == 6
    agreement = compare_classes(found, truth, within=pure)
    assert agreement.adjusted_rand >= least


def test_six_classes_are_suggested(twophase):
    assert py4DSTEM.suggest_classes(twophase[0], (4, 8)).best == 6


@pytest.fixture(scope="module")
def twophase(shared_data):
    import h5py

    with h5py.File(shared_data / "twophase" / "data.h5") as f:
        cube = DataCube(f["data"][:])
    truth = np.load(shared_data / "twophase" / "truth.npz")
    cube = cube.repair_pixels(cube.detect_hot_pixels())
    return features(cube), truth["label"].astype(int), truth["pure"].astype(bool)


def test_cancelled_between_runs(grains):
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(py4DSTEM.Cancelled, match="classify"):
        classify(grains, n=3, options=RunOptions(cancel=stop))
