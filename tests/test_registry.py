"""Names of networks, mixtures and noises, of this package and of a user's own module."""

import sys

import conftest
import pytest

from nem_tf import layers
from nem_tf.errors import UserError
from nem_tf.registry import MIXTURES, NETWORKS, NOISES, Registry
from nem_tf.settings import resolve


@pytest.mark.parametrize("registry", [NETWORKS, MIXTURES, NOISES], ids=lambda registry: registry.setting)
def test_every_name_is_a_public_layer_or_function(registry):
    for name in registry.names:
        assert registry.load(name) in vars(layers).values()


def test_names_are_those_of_the_method():
    assert set(NETWORKS.names) == {
        "flying_shapes", "flying_mnist", "convolutional", "static_rnn_em", "static_n_em", "balls_rnn_em", "balls_r_nem",
        "balls_r_nem_no_attention", "balls_lstm", "space_invaders_r_nem",
    }  # fmt: skip
    assert MIXTURES.load("gaussian") is layers.GaussianMixture
    assert MIXTURES.load("bernoulli") is layers.BernoulliMixture
    assert NOISES.load("bitflip") is layers.BitflipNoise
    assert NOISES.load("masked_uniform") is layers.MaskedUniformNoise
    for name in NETWORKS.names:
        assert NETWORKS.load(name) is getattr(layers, name)


def test_a_module_of_one_s_own_is_named_as_a_place():
    assert NETWORKS.load("conftest:small_network") is conftest.small_network
    assert resolve({"network": "conftest:small_network"}).model.network == "conftest:small_network"


@pytest.mark.parametrize("name", ["flying_pigs", "", "a.b.c", "module:", ":function", "a:b:c", "a/b:c", "a b:c", "1:2"])
def test_what_is_neither_a_name_nor_a_place_is_refused_with_the_names_that_there_are(name):
    for registry in (NETWORKS, MIXTURES, NOISES):
        with pytest.raises(UserError) as refused:
            registry.load(name)
        expected = f"expected {', '.join(registry.names)}, or module:attribute"
        assert str(refused.value) == f"--{registry.setting}={name} is unknown: {expected}"


def test_a_check_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    NETWORKS.check("never_imported:network")
    resolve({"network": "never_imported:network", "mixture": "never_imported:Mixture", "noise": "nowhere.at:all"})
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def network(:", "cannot be loaded"),
        ("1 / 0", "cannot be loaded"),
        ("network = 5", "expected a function or a class"),
    ],
)
def test_a_module_of_one_s_own_that_is_wrong(tmp_path, monkeypatch, text, words):
    (tmp_path / "wrong_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_network", raising=False)
    with pytest.raises(UserError, match=f"--network=wrong_network:network .*{words}"):
        NETWORKS.load("wrong_network:network")


@pytest.mark.parametrize("place", ["nowhere_at_all:network", "nem_tf.nowhere:network", "conftest:large_network"])
def test_a_place_where_there_is_nothing(place):
    with pytest.raises(UserError, match=f"--network={place} cannot be loaded: "):
        NETWORKS.load(place)


def test_a_module_may_add_names():
    registry = Registry("network", {"a": "conftest:small_cell"})
    registry.register("mine", "conftest:small_network")
    assert registry.names == ("a", "mine")
    assert registry.load("mine") is conftest.small_network
    for name, place in (("a", "conftest:small_network"), ("b", "conftest.small_network"), ("mine", "x:y")):
        with pytest.raises(ValueError, match="expected a new name and module:attribute"):
            registry.register(name, place)
    assert registry.names == ("a", "mine")
