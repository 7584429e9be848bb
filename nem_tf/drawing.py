"""What pictures of a model are drawn with: the components' colours, arrows, tiles with frames and labels, GIFs."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's palette, which people tell apart whatever colours they see.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#56b4e9", "#d55e00", "#999999")
WHITE, INK, FAINT_INK = (255, 255, 255), (25, 25, 25), (100, 100, 100)
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
FONT_SIZE, SPACE = 14, 8  # pixels
LIT = 0.1  # what is predicted brighter than this shows something
HELD = 0.02  # share of what is shown that a component has at least if it holds anything
BEHIND = 0.4  # brightness of what is behind arrows
FINER = 3  # arrows are drawn so many times larger, and then made smaller
TILE = 112  # pixels of a picture of a frame, about: every pixel of a frame is a square of whole pixels
FRAME = 3  # pixels around it
FAINT = 0.3  # brightness of the responsibilities where a frame is black
STILL_STEPS = (1, 2, 3, 5, 8, 12, 16)  # that a picture of a few steps shows, beside the last one
GIF_COLOURS, GIF_GREYS, NEAR = 256, 32, 8  # of a palette; what counts as grey


def component_colours(k: int) -> np.ndarray:
    """RGB in [0, 1], float [K, 3]: well apart, the same for the same k everywhere."""
    if k > len(PALETTE):
        return matplotlib.colormaps["hsv"](np.arange(k) / k)[:, :3]
    return np.array([matplotlib.colors.to_rgb(colour) for colour in PALETTE[:k]])


def rgb(images: np.ndarray) -> np.ndarray:
    """[..., H, W, C] -> [..., H, W, 3] in [0, 1]: three channels are colours, any other number a grey mean."""
    if images.shape[-1] != 3:
        images = images.mean(-1, keepdims=True).repeat(3, axis=-1)
    return images.clip(0, 1)


def mixed_colours(gamma: np.ndarray) -> np.ndarray:
    """Returns responsibilities [T, K, H, W, 1] as colours [T, H, W, 3]: those of the components, mixed by them."""
    return np.einsum("tkhw,kc->thwc", gamma[..., 0], component_colours(gamma.shape[1]))


def explained(gamma: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Returns who explains which pixel, [T, H, W, 3]: responsibilities as colours, faint where a frame is dark.

    Arguments:
        gamma: [T, K, H, W, 1].
        seen: the frames, RGB [T, H, W, 3] in [0, 1].
    """
    return mixed_colours(gamma) * (FAINT + (1 - FAINT) * seen.max(-1, keepdims=True))


def in_colours(gamma: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Returns what components predict and explain as one picture in their colours, [T, H, W, 3].

    Arguments:
        gamma, psi: [T, K, H, W, 1] and [T, K, H, W, C].
    """
    return mixed_colours(gamma * psi.mean(-1, keepdims=True).clip(0, 1))


def places(gamma: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where every component is, and whether it holds anything.

    Arguments:
        gamma, psi: [T, K, H, W, 1] and [T, K, H, W, C].

    Returns:
        centres: [T, K, 2], row and column in pixels, the centre of mass of gamma psi where anything is predicted; NaN
            of a component without any.
        holds: bool [T, K], whether it has at least 2 % of what is predicted.
    """
    lit = psi.mean(-1).max(1, keepdims=True) > LIT  # [T, 1, H, W]
    mass = np.where(lit, (gamma * psi.mean(-1, keepdims=True))[..., 0].clip(0), 0)  # [T, K, H, W]
    total = mass.sum((2, 3))
    at = np.stack(np.meshgrid(*(np.arange(size) for size in mass.shape[2:]), indexing="ij"))  # [2, H, W]
    with np.errstate(invalid="ignore"):
        centres = np.einsum("tkhw,chw->tkc", mass, at) / total[..., None]
    return centres, (total > 0) & (total >= HELD * total.sum(1, keepdims=True))


def attention_tiles(gamma: np.ndarray, psi: np.ndarray, attention: np.ndarray, scale: int) -> np.ndarray:
    """Draws who affects whom: an arrow from component j to k, in j's colour, as opaque as k's attention to j.

    Behind them is, dark, what `in_colours` shows. Components that hold nothing have no arrows.

    Arguments:
        gamma, psi: [T, K, H, W, 1] and [T, K, H, W, C].
        attention: [T, K, K] in [0, 1], row k of the component that looks.
        scale: pixels of the tile for a pixel of the frame.

    Returns RGB in [0, 1], [T, H * scale, W * scale, 3].
    """
    behind = BEHIND * enlarged(in_colours(gamma, psi), scale)
    colours = (255 * component_colours(gamma.shape[1])).round().astype(int)
    tiles = []
    for picture, centres, holds, weights in zip(behind, *places(gamma, psi), attention):
        size = tuple(FINER * length for length in picture.shape[1::-1])
        arrows = Image.new("RGBA", size)
        draw = ImageDraw.Draw(arrows)
        at = (centres[:, ::-1] + 0.5) * scale * FINER  # [K, 2], x and y
        held = np.flatnonzero(holds)
        for j, k in sorted(((j, k) for j in held for k in held if j != k), key=lambda pair: weights[pair[1], pair[0]]):
            _arrow(draw, at[j], at[k], (*colours[j], round(255 * float(weights[k, j]))), scale * FINER)
        for j in held:
            x, y, r = *at[j], scale * FINER
            draw.ellipse((x - r, y - r, x + r, y + r), (*colours[j], 255))
        arrows = arrows.resize(picture.shape[1::-1], Image.Resampling.BOX)
        under = Image.fromarray((255 * picture).round().astype(np.uint8)).convert("RGBA")
        tiles.append(np.asarray(Image.alpha_composite(under, arrows).convert("RGB")) / 255)
    return np.stack(tiles)


def _arrow(draw, start, end, colour, pixel):
    """An arrow between two objects, a little to the left of the line: the one back is on the other side.

    Arguments:
        start, end: x and y of their centres.
        pixel: size of a pixel of the frame.
    """
    length = np.hypot(*(end - start))
    if length < 4 * pixel:
        return  # they lie on each other
    ahead = (end - start) / length
    aside = np.array([ahead[1], -ahead[0]])
    gap = min(3 * pixel, length / 4)
    start, end = start + gap * ahead + pixel * aside, end - gap * ahead + pixel * aside
    neck = end - 3 * pixel * ahead
    draw.line((*start, *neck), colour, max(1, round(0.8 * pixel)))
    draw.polygon([tuple(end), tuple(neck + 1.5 * pixel * aside), tuple(neck - 1.5 * pixel * aside)], colour)


def framed(images: np.ndarray, colour: np.ndarray | float, width: int) -> np.ndarray:
    """Puts a frame, `width` pixels wide, around each of the images [..., h, w, 3].

    Its colour is one for all, or one for each: grey, [3], or an array that fits [..., h, w, 3].
    """
    *lead, height, breadth, _ = images.shape
    out = np.empty((*lead, height + 2 * width, breadth + 2 * width, 3))
    out[:] = colour
    out[..., width:-width, width:-width, :] = images
    return out


def enlarged(images: np.ndarray, scale: int) -> np.ndarray:
    """Makes every pixel of [..., h, w, 3] a square of `scale` x `scale`."""
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def labelled(
    tiles: np.ndarray, columns: Sequence[str], rows: Sequence[Sequence[str]], footnote: str = ""
) -> np.ndarray:
    """Draws tables of tiles on white, a label over every column and left of every row: uint8 [T, h, w, 3].

    Arguments:
        tiles: [T, R, C, h, w, 3] in [0, 1].
        columns: C labels, the same in all tables.
        rows: R labels for each of the T tables.
        footnote: lines below each.
    """
    _, nr_rows, nr_columns, height, width, _ = tiles.shape
    font = ImageFont.truetype(str(FONT), FONT_SIZE)
    over, beside = _size(columns, font), _size([text for texts in rows for text in texts], font)
    below = _size([footnote], font)
    step_x, step_y = max(width, over[0]) + SPACE, max(height, beside[1]) + SPACE
    left, top = beside[0] + 2 * SPACE, over[1] + 2 * SPACE
    bottom = top + nr_rows * step_y
    size = max(left + nr_columns * step_x, below[0] + 2 * SPACE), bottom + (below[1] + 2 * SPACE if footnote else 0)
    pixels = (255 * tiles).round().astype(np.uint8)
    pictures = []
    for table, texts in zip(pixels, rows):
        picture = Image.new("RGB", size, WHITE)
        draw = ImageDraw.Draw(picture)
        draw.multiline_text((SPACE, bottom + SPACE // 2), footnote, FAINT_INK, font)
        for column, text in enumerate(columns):
            middle = left + column * step_x + (step_x - SPACE) / 2
            draw.multiline_text((middle, top - SPACE), text, INK, font, anchor="md", align="center")
        for row, text in enumerate(texts):
            y = top + row * step_y
            draw.multiline_text((left - SPACE, y + (step_y - SPACE) / 2), text, INK, font, anchor="rm", align="right")
            for column, tile in enumerate(table[row]):
                x = left + column * step_x + (step_x - SPACE - width) // 2
                picture.paste(Image.fromarray(tile), (x, y))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def _size(texts, font):
    """Width and height in pixels of the widest and the highest of some texts."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = np.array([draw.multiline_textbbox((0, 0), text, font) for text in texts])
    return tuple(int(size) for size in np.ceil(boxes[:, 2:].max(0)))


def gif(pictures: np.ndarray, milliseconds: int, pause: int = 0) -> bytes:
    """Returns pictures, uint8 [T, h, w, 3], as an endless GIF.

    Arguments:
        pictures: one after the other, no two neighbours the same.
        milliseconds: for which each is shown.
        pause: for how much longer the last one is.
    """
    # One palette for all, so that nothing flickers: greys, white and black among them, and the colours that cover best
    # what is coloured. Every colour counts once: of what is rare and dark, as balls that a model imagines, the hue says
    # which component it is.
    occurs = np.zeros((256, 256, 256), bool)
    occurs[tuple(np.moveaxis(pictures, -1, 0))] = True  # np.unique would sort all pixels
    distinct = np.argwhere(occurs)
    coloured = distinct[np.ptp(distinct, axis=1) > NEAR].astype(np.uint8)
    greys = np.linspace(0, 255, GIF_GREYS).round().repeat(3).astype(int).tolist()
    others = []
    if len(coloured):
        covering = Image.fromarray(coloured[None]).quantize(GIF_COLOURS - GIF_GREYS, Image.Quantize.MAXCOVERAGE)
        others = covering.getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*greys, *others])
    first, *rest = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    durations = [milliseconds] * len(rest) + [milliseconds + pause]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
    return buffer.getvalue()
