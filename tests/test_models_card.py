import errno
import json
import os
import resource
import signal

import numpy as np
import pytest
from networks import NARROW, THIN, assert_same, narrow, pictures, shake

from gluon_ran.data import Normalization
from gluon_ran.models import (
    Baseline,
    Card,
    WeightsError,
    find_spec,
    load_weights,
    read_card,
    save_with_card,
)
from gluon_ran.models.params_file import read_params_file

from mxnet import nd

NORMALIZATION = Normalization((120.5, 110.25, 100.1), (60, 61, 62))


def arrays():
    return {"a": nd.ones((2, 3)), "b": nd.zeros(4)}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "net.params"
    spec = find_spec(THIN, 2, **NARROW)
    save_with_card(arrays(), Card(spec, NORMALIZATION, ("x", "y"), (40, 32), "pad"), path)
    return path


@pytest.mark.parametrize(
    "spec", [find_spec(THIN, 7, **NARROW, learning="naive"), Baseline("cifar_resnet20_v2", 3)]
)
def test_a_card_is_read_back_as_it_was_written(tmp_path, spec):
    path = tmp_path / "net.params"
    names = tuple(f"gr\u00fcn {n}" for n in range(spec.classes))
    card = Card(spec, NORMALIZATION, names, (48, 64), "pad")
    assert save_with_card(arrays(), card, path) == tmp_path / "net.json"
    read = read_card(path)
    assert read.spec == spec and read.class_names == names
    assert (read.size, read.fit) == ((48, 64), "pad")
    assert np.array_equal(read.normalization.mean, NORMALIZATION.mean)
    assert np.array_equal(read.normalization.std, NORMALIZATION.std)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.json", "net.params"]


def test_what_is_not_known_is_none(tmp_path):
    save_with_card(arrays(), Card(find_spec(THIN)), tmp_path / "net.params")
    card = read_card(tmp_path / "net.params")
    assert (card.normalization, card.class_names, card.size, card.fit) == (None, (), None, None)


def test_a_card_has_how_the_weights_were_trained(tmp_path):
    record = {"data": "digits", "seconds": 1.5, "recipe": {"lr_steps": [1, 2]}, "start": None}
    path = tmp_path / "net.params"
    save_with_card(arrays(), Card(find_spec(THIN), training=record), path)
    assert read_card(path).training == record
    with pytest.raises(ValueError, match="training is an object of JSON"):
        Card(find_spec(THIN), training=["digits"])
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_with_card(arrays(), Card(find_spec(THIN), training={"loss": float("nan")}), path, True)
    assert read_card(path).training == record


def test_a_card_that_could_not_be_read_again_is_not_made(tmp_path):
    spec, path = find_spec(THIN), tmp_path / "net.params"
    save_with_card(arrays(), Card(spec, size=np.int64(48), fit="pad"), path)
    assert (read_card(path).size, read_card(path).fit) == ((48, 48), "pad")
    for changes in ({"size": 0}, {"size": (48, 48, 3)}, {"size": "48"}, {"fit": "center"}):
        with pytest.raises(ValueError):
            Card(spec, **changes)


def test_halves_give_the_scores_of_the_whole(tmp_path):
    net = narrow()
    shake(net)
    half = tmp_path / "half.params"
    save_with_card(net, Card(net.spec), half, half=True)
    assert {a.dtype for a in read_params_file(half).values() if a.ndim > 1} == {np.dtype("<f2")}
    other, x = narrow(), pictures(count=8)
    load_weights(other, half)
    assert {np.dtype(p.dtype) for p in other.collect_params().values()} == {np.dtype("float32")}
    scores, expected = other(x).asnumpy(), net(x).asnumpy()
    difference = np.linalg.norm(scores - expected) / np.linalg.norm(expected)
    assert 0 < difference < 2e-3
    again = tmp_path / "again.params"
    save_with_card(other, Card(net.spec), again, half=True)
    assert again.read_bytes() == half.read_bytes()


@pytest.mark.parametrize(
    "values, half",
    [
        ([0.5, -2e-3, 1e-9], True),  # what is lost of the last is nothing beside the first
        ([1e5, 1.0, 1.0], False),
        ([3e-6, 1e-6, 2e-6], False),
        ([1e-9, 1e-10, 0], False),
        ([0, 0, 0], True),
        ([float("inf"), 1, 1], False),
        ([float("nan"), 1, 1], False),
    ],
)
def test_what_halves_would_change_stays_whole(tmp_path, values, half):
    path = tmp_path / "net.params"
    array = np.array([values], np.float32)
    save_with_card({"a": nd.array(array)}, Card(find_spec(THIN)), path, half=True)
    (read,) = read_params_file(path).values()
    assert read.dtype == (np.float16 if half else np.float32)
    np.testing.assert_allclose(read, array, rtol=1e-3, atol=1e-8)


def test_statistics_and_whole_numbers_stay_as_they_are(tmp_path):
    path = tmp_path / "net.params"
    given = {"mean": nd.array([0.1]), "count": nd.array([[3]], dtype="int32")}
    save_with_card(given, Card(find_spec(THIN)), path, half=True)
    read = read_params_file(path)
    assert {name: array.dtype for name, array in read.items()} == {"mean": "<f4", "count": "<i4"}


def test_weights_without_a_card_have_none(tmp_path):
    nd.save(str(tmp_path / "net.params"), arrays())
    assert read_card(tmp_path / "net.params") is None
    assert read_card(tmp_path / "nothing.params") is None


def test_the_weights_are_plain_gluon(tmp_path):
    net = narrow()
    save_with_card(net, Card(net.spec), tmp_path / "net.params")
    other = narrow()
    other.load_parameters(str(tmp_path / "net.params"))
    x = pictures()
    assert_same(other(x), net(x))


def test_other_than_a_name_for_each_class_is_refused():
    with pytest.raises(ValueError, match="2 class names for 10 classes"):
        Card(find_spec(THIN), class_names=("one", "two"))


def test_the_card_of_other_weights_is_refused(weights):
    nd.save(str(weights), {"a": nd.zeros(2)})
    with pytest.raises(WeightsError, match="net.json is the card of other weights"):
        read_card(weights)
    weights.unlink()
    with pytest.raises(WeightsError, match="no weights at .*only their card"):
        read_card(weights)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[1]",
        lambda content: json.dumps({"spec": content["spec"]}),
        lambda content: json.dumps({**content, "spec": {"name": "x"}}),
        lambda content: json.dumps({**content, "spec": {**content["spec"], "t": "two"}}),
        lambda content: json.dumps({**content, "normalization": {"mean": [1, 2, 3]}}),
        lambda content: json.dumps({**content, "class_names": 3}),
        lambda content: json.dumps({**content, "class_names": ["one"]}),
        lambda content: json.dumps({**content, "size": "large"}),
        lambda content: json.dumps({**content, "fit": "somehow"}),
        lambda content: json.dumps({**content, "sha256": "of mine"}),
        lambda content: json.dumps({**content, "sha256": 5}),
        lambda content: json.dumps({**content, "training": "long"}),
        lambda content: "[" * 100_000,
    ],
)
def test_damaged_cards_are_refused(weights, damage):
    beside = weights.with_suffix(".json")
    beside.write_text(damage(json.loads(beside.read_text())))
    with pytest.raises(WeightsError, match="net.json is no card of weights, or damaged"):
        read_card(weights)


def test_nothing_is_replaced_unasked(weights):
    card = read_card(weights)
    for there, other in ((".params", ".json"), (".json", ".params")):
        weights.with_suffix(other).rename(weights.with_name("away"))
        with pytest.raises(WeightsError, match=f"net{there} exists already"):
            save_with_card(arrays(), card, weights)
        weights.with_name("away").rename(weights.with_suffix(other))
    save_with_card({"c": nd.zeros(1)}, card, weights, force=True)
    assert list(nd.load(str(weights))) == ["c"] and read_card(weights).spec == card.spec


def test_places_that_cannot_be_written_to_are_named(tmp_path):
    card = Card(find_spec(THIN))
    with pytest.raises(WeightsError, match="there is no folder"):
        save_with_card(arrays(), card, tmp_path / "none" / "net.params")
    with pytest.raises(WeightsError, match="does not end in .params"):
        save_with_card(arrays(), card, tmp_path / "net.npz")


@pytest.mark.parametrize("survived", [0, 1])
def test_a_kill_between_the_two_files_shows(weights, monkeypatch, survived):
    """The process ends when none or one of the two new files has taken its place."""
    card, replace, done = read_card(weights), os.replace, []

    def killed(source, target):
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_with_card({"c": nd.zeros(1)}, card, weights, force=True)
    if survived == 0:
        assert read_card(weights).spec == card.spec
    else:
        with pytest.raises(WeightsError, match="card of other weights"):
            read_card(weights)
    assert list(nd.load(str(weights))) == ["a", "b"]


def test_weights_without_the_right_to_read_them_are_an_error_of_their_own(tmp_path, monkeypatch):
    """As for a file of another user's, which the superuser reads all the same."""
    path = tmp_path / "net.params"
    save_with_card({"a": nd.ones(1)}, Card(find_spec(THIN)), path)

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("gluon_ran.models.card.sha256_of", denied)
    with pytest.raises(WeightsError, match=r"net.params can't be read \(Permission denied\)"):
        read_card(path)


def test_a_disk_that_is_full_leaves_the_weights_that_were_there(tmp_path):
    """By the system's limit on a file's size, a few bytes short."""
    path = tmp_path / "net.params"
    save_with_card({"a": nd.ones(1000)}, Card(find_spec(THIN)), path)
    before = [path.read_bytes(), path.with_suffix(".json").read_bytes()]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) - 10, limits[1]))
        with pytest.raises(OSError, match="too large"):
            save_with_card({"a": nd.zeros(1000)}, Card(find_spec(THIN)), path, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.read_bytes(), path.with_suffix(".json").read_bytes()] == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["net.json", "net.params"]
