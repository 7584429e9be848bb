"""The pictures of the paper's Fig. 4, still and moving, and that of R-NEM's attention."""

from collections.abc import Mapping

import numpy as np

from nem_tf.drawing import (
    STILL_STEPS,
    attention_tiles,
    component_colours,
    enlarged,
    framed,
    gif,
    in_colours,
    labelled,
    mixed_colours,
    rgb,
)
from nem_tf.layers.system import Forward

BORDER = 2  # pixels around every tile
BACKGROUND = 1.0  # white
FRAME_MILLISECONDS = 250
TILE = 64  # pixels of a tile of overview and animation, about; two for a pixel at least
ATTENTION_TILE = 160  # pixels of a frame in it, about
ATTENTION_ROWS = ("true", "what all\npredict", "who then\naffects whom")


def picture_rows(result: Forward, sample: int) -> dict[str, np.ndarray]:
    """The rows of the overview of one sample: name -> RGB tiles, float [T, h, w, 3] in [0, 1].

    The true frame, its reconstruction (psi weighted by gamma), responsibilities in the components' colours, what each
    component predicts framed in its colour, and the noisy input that the step saw.
    """
    target, noisy = np.asarray(result.target[sample]), np.asarray(result.noisy[sample])  # [T, H, W, C]
    psi, gamma = (np.asarray(result.outputs[name][sample]) for name in ("predictions", "gamma"))  # [T, K, H, W, C]
    colours = component_colours(gamma.shape[1])
    rows = {
        "true frame": _tiles(rgb(target)),
        "reconstruction": _tiles(rgb((gamma * psi).sum(1))),
        "gamma": _tiles(mixed_colours(gamma)),
    }
    rows |= {f"component {k + 1}": _tiles(rgb(psi[:, k]), colour) for k, colour in enumerate(colours)}
    rows["noisy input"] = _tiles(rgb(noisy))
    return rows


def overview(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """All steps side by side, labelled: RGB uint8 [h, w, 3]. `rows` come from `picture_rows`."""
    tiles = np.stack(list(rows.values()))  # [R, T, h, w, 3]
    steps = ["step 1", *map(str, range(2, tiles.shape[1] + 1))]
    (picture,) = labelled(enlarged(tiles, _scale(tiles))[None], steps, [list(rows)])
    return picture


def animation(rows: Mapping[str, np.ndarray]) -> bytes:
    """One step after the other as an endless GIF, the rows side by side, labelled. `rows` come from `picture_rows`."""
    tiles = np.stack(list(rows.values()), axis=1)[:, None]  # [T, 1, R, h, w, 3]
    steps = [[f"step {step + 1}"] for step in range(len(tiles))]
    return gif(labelled(enlarged(tiles, _scale(tiles)), list(rows), steps), FRAME_MILLISECONDS)


def attention_picture(result: Forward, sample: int) -> np.ndarray | None:
    """Some steps of one sample: the true frame, what is predicted in the components' colours, and who affects whom.

    Returns RGB uint8 [h, w, 3]; None of a model whose components do not look at each other. That has `attention`
    [B, T, K, K] among its outputs.
    """
    if "attention" not in result.outputs:
        return None
    last = result.target.shape[1] - 1
    steps = [*(step - 1 for step in STILL_STEPS if step <= last), last]
    target = np.asarray(result.target[sample])[steps]  # [S, H, W, C]
    gamma, psi, attention = (
        np.asarray(result.outputs[name][sample])[steps] for name in ("gamma", "predictions", "attention")
    )
    scale = max(1, round(ATTENTION_TILE / max(target.shape[1:3])))
    rows = [enlarged(images, scale) for images in (rgb(target), in_colours(gamma, psi))]
    rows.append(attention_tiles(gamma, psi, attention, scale))
    (picture,) = labelled(np.stack(rows)[None], [f"step {step + 1}" for step in steps], [ATTENTION_ROWS])
    return picture


def _scale(tiles):
    """How often the pixels of [.., h, w, 3] are repeated."""
    return max(2, round(TILE / max(tiles.shape[-3:-1])))


def _tiles(images, frame=BACKGROUND):
    """Puts a frame of a colour and then a border around each of [T, H, W, 3]."""
    return framed(framed(images, frame, BORDER), BACKGROUND, BORDER)
