"""The pictures: right rows, right colours, a GIF that moves."""

import io

import numpy as np
import pytest
from PIL import Image

from nem_tf.drawing import enlarged
from nem_tf.layers.system import Forward
from nem_tf.training import pictures


def result(rng, channels=1, k=3, steps=4):
    gamma = rng.dirichlet(np.ones(k), (2, steps, 6, 5)).transpose(0, 1, 4, 2, 3)[..., None]
    shape = (2, steps, 6, 5, channels)
    psi = rng.random((2, steps, k, 6, 5, channels))
    return Forward(rng.random(shape), rng.random(shape), {"predictions": psi, "gamma": gamma, "theta": None}, None)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_rows_show_what_their_names_say(rng, channels):
    forward = result(rng, channels)
    rows = pictures.picture_rows(forward, 1)
    assert list(rows) == [
        "true frame",
        "reconstruction",
        "gamma",
        *(f"component {k}" for k in (1, 2, 3)),
        "noisy input",
    ]
    b = 2 * pictures.BORDER
    inside = {name: tiles[:, b:-b, b:-b] for name, tiles in rows.items()}
    for name, tiles in rows.items():
        assert tiles.shape == (4, 6 + 2 * b, 5 + 2 * b, 3), name
    gamma, psi = forward.outputs["gamma"][1], forward.outputs["predictions"][1]
    colours = pictures.component_colours(3)

    def shown(images):
        return images if channels == 3 else images.mean(-1, keepdims=True) * np.ones(3)

    np.testing.assert_allclose(inside["true frame"], shown(forward.target[1]))
    np.testing.assert_allclose(inside["noisy input"], shown(forward.noisy[1]))
    np.testing.assert_allclose(inside["reconstruction"], shown((gamma * psi).sum(1)))
    np.testing.assert_allclose(inside["gamma"], sum(gamma[:, k] * colours[k] for k in range(3)))
    for k in range(3):
        np.testing.assert_allclose(inside[f"component {k + 1}"], shown(psi[:, k]))
        frame = rows[f"component {k + 1}"][:, pictures.BORDER, pictures.BORDER]
        np.testing.assert_allclose(frame, np.tile(colours[k], (4, 1)))


def test_the_attention_has_a_picture_of_some_steps_and_only_where_there_is_any(rng):
    forward = result(rng, steps=20)
    assert pictures.attention_picture(forward, 0) is None
    psi = forward.outputs["predictions"]
    psi[:, :, 0, 1:], psi[:, :, 1, :-1] = 0, 0  # one at the top, one at the bottom
    forward.outputs["gamma"][:, :, 2] = 0
    weights = np.zeros((2, 20, 3, 3))
    without = pictures.attention_picture(forward._replace(outputs={**forward.outputs, "attention": weights}), 1)
    weights[1, 4, 0, 1] = 1  # a step that is shown
    forward.outputs["attention"] = weights
    picture = pictures.attention_picture(forward, 1)
    assert picture.dtype == np.uint8
    assert picture.shape == without.shape
    scale = round(pictures.ATTENTION_TILE / 6)
    assert picture.shape[0] > 3 * 6 * scale
    assert picture.shape[1] > (len(pictures.STILL_STEPS) + 1) * 5 * scale
    changed = np.argwhere((picture != without).any(-1))
    assert len(changed) > 20
    assert (np.ptp(changed, axis=0) < [6 * scale, 5 * scale]).all()  # in one tile


def test_overview_and_animation(rng):
    rows = pictures.picture_rows(result(rng), 0)
    picture = pictures.overview(rows)
    assert picture.dtype == np.uint8
    places = []
    for row in ("true frame", "gamma", "component 2"):
        for step in (0, 2):
            places.append(place_in(picture, rows[row][step]))
    places = np.array(places).reshape(3, 2, 2)  # row, step, (y, x)
    assert (np.diff(places[:, :, 0], axis=0) > 0).all()
    assert (np.ptp(places[:, :, 0], axis=1) == 0).all()
    assert (np.diff(places[:, :, 1], axis=1) > 0).all()
    assert (np.ptp(places[:, :, 1], axis=0) == 0).all()


def place_in(picture, tile):
    """Where a tile [h, w, 3] of a table is in its picture, (y, x): in one place."""
    tile = enlarged((255 * tile).round().astype(np.uint8), round(pictures.TILE / 14))
    windows = np.lib.stride_tricks.sliding_window_view(picture, tile.shape)[:, :, 0]
    alike = (windows[:, :, len(tile) // 2] == tile[len(tile) // 2]).all((2, 3))  # all rows at every place take seconds
    (place,) = (at for at in np.argwhere(alike) if (windows[tuple(at)] == tile).all())
    return place


def test_the_animation_goes_through_the_steps_with_its_tiles_side_by_side(rng):
    rows = pictures.picture_rows(result(rng), 0)
    gif = Image.open(io.BytesIO(pictures.animation(rows)))
    assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 4, 0)
    black = pictures.animation({name: np.zeros_like(tiles) for name, tiles in rows.items()})
    black = np.asarray(Image.open(io.BytesIO(black)).convert("RGB"), float)  # has the labels too
    scale = round(pictures.TILE / 14)
    for step in range(4):
        gif.seek(step)
        shown = np.asarray(gif.convert("RGB"), float)
        if step == 0:
            top, left = np.argwhere((shown != black).any(-1)).min(0)
        tile = 255 * enlarged(rows["true frame"][step], scale)
        height, width, _ = tile.shape
        assert np.abs(shown[top : top + height, left : left + width] - tile).mean() < 20  # as near as a palette comes
    assert gif.width > len(rows) * width


@pytest.mark.parametrize("k", [1, 4, 10, 17])
def test_colours_are_distinct(k):
    assert len(np.unique(pictures.component_colours(k), axis=0)) == k
