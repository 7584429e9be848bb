"""What pictures are drawn with: where components are, and the arrows between them."""

import numpy as np
import pytest

from nem_tf.drawing import BEHIND, attention_tiles, component_colours, framed, in_colours, places

H, W = 20, 30


def discs(*centres, k=4):
    """Components that hold a square each, and others that hold nothing: gamma and psi of one step."""
    psi, gamma = np.full((1, k, H, W, 1), 0.01), np.full((1, k, H, W, 1), 1 / k)
    for i, (y, x) in enumerate(centres):
        here = (slice(y - 2, y + 3), slice(x - 2, x + 3))
        psi[0, i, *here] = 0.9
        gamma[0, :, *here] = 0
        gamma[0, i, *here] = 1
    return gamma, psi


def test_a_component_is_where_its_share_of_what_is_predicted_lies():
    centres, holds = places(*discs((5, 6), (14, 22)))
    assert holds.tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(centres[0, :2], [(5, 6), (14, 22)])
    gamma, psi = discs((5, 6))
    centres, holds = places(gamma, np.full_like(psi, 0.05))  # nothing is lit
    assert np.isnan(centres).all()
    assert not holds.any()
    psi[0, 1, 3:8, 4:9] = 0.9
    gamma[0, 0, 3:8, 4:9], gamma[0, 1, 3:8, 4:9] = 0.995, 0.005  # less than 2 %
    assert places(gamma, psi)[1].tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("scale", [2, 5])
def test_an_arrow_goes_from_whom_is_looked_at_to_who_looks_as_opaque_as_the_attention(scale):
    gamma, psi = discs((10, 5), (10, 24))
    attention = np.zeros((1, 4, 4))
    plain = attention_tiles(gamma, psi, attention, scale)[0]
    assert plain.shape == (H * scale, W * scale, 3)
    background = BEHIND * in_colours(gamma, psi)[0].repeat(scale, 0).repeat(scale, 1)
    dots = np.abs(plain - background).max(-1) > 0.02
    assert 2 * scale**2 < dots.sum() < 2 * (3 * scale) ** 2  # the centres

    def arrow(k, j, weight=1.0):
        weights = attention.copy()
        weights[0, k, j] = weight
        return np.abs(attention_tiles(gamma, psi, weights, scale)[0] - plain)

    forth, back = arrow(1, 0), arrow(0, 1)
    for drawn, colour, ahead in ((forth, 0, 1), (back, 1, -1)):
        there = drawn.max(-1) > 0.1
        columns = np.flatnonzero(there.any(0))
        assert np.ptp(columns) > 10 * scale  # from one to the other
        middle = drawn[:, W * scale // 2].max(0)
        np.testing.assert_allclose(middle, component_colours(4)[colour], atol=0.05)  # of the colour of j
        ends = there[:, columns[0] : columns[0] + scale], there[:, columns[-1] - scale + 1 : columns[-1] + 1]
        thick = [there[:, columns[2 * scale : 3 * scale]].sum(), there[:, columns[-3 * scale : -2 * scale]].sum()]
        assert (thick[1] - thick[0]) * ahead > 0, ends  # the head is at k
    assert not ((forth.max(-1) > 0.1) & (back.max(-1) > 0.1)).any()  # side by side
    faint = arrow(1, 0, 0.5)
    assert faint.max() == pytest.approx(forth.max() / 2, abs=0.02)
    assert not arrow(2, 0).any()  # a component that holds nothing
    assert not arrow(0, 0).any()


def test_objects_that_lie_on_each_other_have_no_arrow():
    gamma, psi = discs((10, 10), (10, 12))
    attention = np.ones((1, 4, 4))
    np.testing.assert_array_equal(
        attention_tiles(gamma, psi, attention, 3), attention_tiles(gamma, psi, 0 * attention, 3)
    )


def test_every_picture_may_have_a_frame_of_its_own(rng):
    images, colours = rng.random((2, 3, 4, 5, 3)), rng.random((3, 1, 1, 3))
    out = framed(images, colours, 2)
    assert out.shape == (2, 3, 8, 9, 3)
    np.testing.assert_array_equal(out[:, :, 2:-2, 2:-2], images)
    for place in ((0, 0), (-1, -1), (3, 1)):
        np.testing.assert_array_equal(out[0][:, place[0], place[1]], colours[:, 0, 0])
