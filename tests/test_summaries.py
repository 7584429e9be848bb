"""The pictures: right rows, right colours, a GIF that moves."""

import io
import threading

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nem_tf import summaries
from nem_tf.scoring import Forward


def result(rng, channels=1, k=3, steps=4):
    gamma = rng.dirichlet(np.ones(k), (2, steps, 6, 5)).transpose(0, 1, 4, 2, 3)[..., None]
    shape = (2, steps, 6, 5, channels)
    psi = rng.random((2, steps, k, 6, 5, channels))
    return Forward(rng.random(shape), rng.random(shape), {"predictions": psi, "gamma": gamma, "theta": None}, None)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_rows_show_what_their_names_say(rng, channels):
    forward = result(rng, channels)
    rows = summaries.picture_rows(forward, 1)
    assert list(rows) == ["input", "reconstruction", "gamma", *(f"component {k}" for k in (1, 2, 3)), "noisy input"]
    b = 2 * summaries.BORDER
    inside = {name: tiles[:, b:-b, b:-b] for name, tiles in rows.items()}
    for name, tiles in rows.items():
        assert tiles.shape == (4, 6 + 2 * b, 5 + 2 * b, 3), name
    gamma, psi = forward.outputs["gamma"][1], forward.outputs["predictions"][1]
    colours = summaries.component_colours(3)

    def shown(images):
        return images if channels == 3 else images.mean(-1, keepdims=True) * np.ones(3)

    np.testing.assert_allclose(inside["input"], shown(forward.target[1]))
    np.testing.assert_allclose(inside["noisy input"], shown(forward.noisy[1]))
    np.testing.assert_allclose(inside["reconstruction"], shown((gamma * psi).sum(1)))
    np.testing.assert_allclose(inside["gamma"], sum(gamma[:, k] * colours[k] for k in range(3)))
    for k in range(3):
        np.testing.assert_allclose(inside[f"component {k + 1}"], shown(psi[:, k]))
        frame = rows[f"component {k + 1}"][:, summaries.BORDER, summaries.BORDER]
        np.testing.assert_allclose(frame, np.tile(colours[k], (4, 1)))


def test_overview_and_animation(rng):
    rows = summaries.picture_rows(result(rng), 0)
    picture = summaries.overview(rows)
    assert picture.dtype == np.uint8
    assert picture.shape[1] > 4 * 13
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    gif = Image.open(io.BytesIO(summaries.animation(rows)))
    assert (gif.format, gif.n_frames) == ("GIF", 4)
    assert gif.info["loop"] == 0


def test_pictures_are_drawn_in_the_background_and_all_there_after_flush(rng, tmp_path, monkeypatch):
    drawn, go_on = [], threading.Event()

    def slow_overview(rows):
        assert go_on.wait(60)
        drawn.append(threading.current_thread())
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(summaries, "overview", slow_overview)
    writer = summaries.Summaries(tmp_path)
    writer.pictures(result(rng), 2, 1)
    assert not drawn  # the caller is back already
    go_on.set()
    writer.flush()
    assert len(drawn) == 2
    assert threading.main_thread() not in drawn
    events = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert {f"{kind}/{i}" for kind in ("overview", "animation") for i in (0, 1)} <= set(events.Tags()["tensors"])


def test_a_picture_that_cannot_be_drawn_is_not_passed_over(rng, tmp_path, monkeypatch):
    def broken(rows):
        raise OSError("no font")

    monkeypatch.setattr(summaries, "overview", broken)
    writer = summaries.Summaries(tmp_path)
    writer.pictures(result(rng), 1, 1)
    with pytest.raises(OSError, match="no font"):
        writer.flush()


@pytest.mark.parametrize("k", [1, 4, 10, 17])
def test_colours_are_distinct(k):
    assert len(np.unique(summaries.component_colours(k), axis=0)) == k
