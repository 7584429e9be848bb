"""The README's Python runs as it stands, and the files it names exist."""

import re
from pathlib import Path

import pytest

import nem_tf
from nem_tf.export import export

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SERVING, LAYERS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_layer_example(capsys):
    exec(LAYERS, {})
    assert "(1, 10, 4, 16, 16, 1)" in capsys.readouterr().out


@pytest.mark.slow
def test_serving_example(tmp_path):
    model = nem_tf.RNNEM(nem_tf.RNNEMCell(**nem_tf.flying_shapes((28, 28, 1)), mixture=nem_tf.BernoulliMixture()))
    model.build((None, None, 28, 28, 1))
    export(model, tmp_path / "model")
    scope = {}
    exec(SERVING.replace("exported/flying_shapes", str(tmp_path / "model")), scope)
    assert scope["outputs"]["masks"].shape == (1, 4, 28, 28)


def test_files_it_names_exist():
    table = README[README.index("| file |") : README.index("Data files have")]
    folder = ""
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", table):
        if "/" in name:
            folder = name.rsplit("/", 1)[0]
        assert (ROOT / name).exists() or (ROOT / folder / name).exists(), name
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / name).exists(), name


def test_flagfiles_it_names_exist_and_none_is_left_out():
    for name in set(re.findall(r"--flagfile=(flags/[\w/]+\.flags)", README)) - {"flags/NAME.flags"}:
        assert (ROOT / name).exists(), name
    for path in (ROOT / "flags").rglob("*.flags"):
        experiment = re.sub(r"(autoencoder_[a-z]+)_[45]", r"\1", path.stem)  # listed as NAME[_4,_5]
        assert re.search(rf"\b{experiment}\b", README), path.name
