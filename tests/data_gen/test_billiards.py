"""The motion of balls: what physics keeps, and a slow program that does one ball after the other."""

import math

import numpy as np
import pytest

from data_gen import billiards

SIZE = 64.0
RADII, MASSES = np.array([5.12, 6.4]), np.array([1.0, 6.0])


def drawn(n, nr_balls, nr_frames=51, size=SIZE, seed=0, steps=2):
    """Motion, radii [n, K] and masses [n, K] of balls of two kinds."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=(n, nr_balls))
    present = np.ones(kind.shape, bool)
    velocity = billiards.scaled_velocities(rng, present, 2.0)
    position = billiards.free_starts(rng, RADII[kind], present, SIZE) + (size - SIZE) / 2
    motion = billiards.moved(position, velocity, RADII[kind], MASSES[kind], size, nr_frames, steps)
    return motion, RADII[kind], MASSES[kind]


@pytest.fixture(scope="module")
def eight():
    return drawn(64, 8)


def distances(position):
    """Of all pairs, [.., P]."""
    return np.stack(
        [np.hypot(*(position[..., i, :] - position[..., j, :]).T).T for i, j in billiards.pairs(position.shape[-2])], -1
    )


def sums_of_radii(radius):
    return np.stack([radius[:, i] + radius[:, j] for i, j in billiards.pairs(radius.shape[1])], -1)


# ---- What is kept.


def test_energy_is_kept(eight):
    motion, _, mass = eight
    energy = (mass[..., None] * motion.velocity**2).sum((2, 3))  # [T, n]
    np.testing.assert_allclose(energy, np.broadcast_to(energy[0], energy.shape), rtol=1e-12)
    assert motion.struck.sum() > 500
    assert (np.abs(np.diff(motion.velocity, axis=0)) > 0.1).any()


def test_momentum_is_kept_where_there_are_no_walls():
    motion, _, mass = drawn(64, 8, size=1e4)
    momentum = (mass[..., None] * motion.velocity).sum(2)  # [T, n, 2]
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[0], momentum.shape), atol=1e-11)
    assert motion.struck.sum() > 100


def test_no_ball_leaves_the_box_and_walls_are_reached(eight):
    motion, radius, _ = eight
    room = motion.position - radius[..., None], SIZE - radius[..., None] - motion.position
    assert min(map(np.min, room)) >= 0
    for side in room:
        assert (side.min((0, 1, 2)) < 0.05).all()  # of either axis


def test_balls_overlap_by_no_more_than_a_small_step(eight):
    motion, radius, _ = eight
    depth = sums_of_radii(radius) - distances(motion.position)  # [T, n, P]
    speed = np.sqrt((motion.velocity**2).sum(-1)).max(0)  # [n, K]
    reach = np.stack([speed[:, i] + speed[:, j] for i, j in billiards.pairs(8)], -1) / 2  # steps are half frames
    assert (depth <= reach).all()
    assert (depth > 0).any()
    assert (depth > 0).mean() < 0.01
    overlapping = (depth[:-1] > 0) & (depth[1:] > 0)
    assert overlapping.sum() < 0.2 * (depth > 0).sum()  # they part at once


def test_smaller_steps_see_collisions_earlier():
    depths = []
    for steps in (2, 8):
        motion, radius, _ = drawn(64, 4, steps=steps)
        depths.append((sums_of_radii(radius) - distances(motion.position)).max())
    assert 0 < depths[1] < depths[0] / 2


# ---- One after the other.


def collided(p, q, v, w, m, n):
    """Velocities after a collision: seen from the centre of mass, the components along the line of centres turn."""
    angle = math.atan2(p[0] - q[0], p[1] - q[1])
    turned = []
    for y, x in (v, w):  # along and across the line
        turned.append([math.sin(angle) * y + math.cos(angle) * x, math.cos(angle) * y - math.sin(angle) * x])
    of_centre = (m * turned[0][0] + n * turned[1][0]) / (m + n)
    after = []
    for along, across in turned:
        along = 2 * of_centre - along
        after.append(
            [math.sin(angle) * along + math.cos(angle) * across, math.cos(angle) * along - math.sin(angle) * across]
        )
    return after


def slowly_moved(position, velocity, radius, mass, nr_frames):
    """The same as `billiards.moved` of one sequence, with loops: position and velocity [T, K, 2], collisions [T]."""
    p, v = position.tolist(), velocity.tolist()
    balls = range(len(p))
    path, velocities, struck = [], [], []
    for _ in range(nr_frames):
        path.append([list(place) for place in p])
        velocities.append([list(speed) for speed in v])
        struck.append(set())
        for _ in range(2):
            for k in balls:
                for axis in range(2):
                    p[k][axis] += v[k][axis] / 2
                    if p[k][axis] < radius[k]:
                        p[k][axis], v[k][axis] = 2 * radius[k] - p[k][axis], abs(v[k][axis])
                    elif p[k][axis] > SIZE - radius[k]:
                        p[k][axis], v[k][axis] = 2 * (SIZE - radius[k]) - p[k][axis], -abs(v[k][axis])
            for i in balls:
                for j in range(i + 1, len(p)):
                    away = [p[i][axis] - p[j][axis] for axis in range(2)]
                    nearing = sum(away[axis] * (v[i][axis] - v[j][axis]) for axis in range(2)) < 0
                    if math.hypot(*away) < radius[i] + radius[j] and nearing:
                        v[i], v[j] = collided(p[i], p[j], v[i], v[j], mass[i], mass[j])
                        struck[-1].add((i, j))
    return np.array(path), np.array(velocities), struck


def test_one_collision_in_numbers():
    """Head on, from 1 to 6 times the mass at rest: -5/7 of the speed is left, and the other gets 2/7."""
    position = np.array([[[32.0, 20.0], [32.0, 32.0]]])
    velocity = np.array([[[0.0, 1.4], [0.0, 0.0]]])
    motion = billiards.moved(position, velocity, RADII[None], MASSES[None], SIZE, 3, 2)
    assert motion.struck[:, 0, 0].tolist() == [True, False, False]
    np.testing.assert_allclose(motion.velocity[1, 0], [[0, -1.0], [0, 0.4]], atol=1e-12)
    np.testing.assert_allclose(motion.position[1, 0], [[32, 20.7 - 0.5], [32, 32.2]], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_motion_is_that_of_the_slow_program(seed):
    motion, radius, mass = drawn(1, 6, nr_frames=25, seed=seed)
    path, velocities, struck = slowly_moved(motion.position[0, 0], motion.velocity[0, 0], radius[0], mass[0], 25)
    np.testing.assert_allclose(motion.position[:, 0], path, atol=1e-9)
    np.testing.assert_allclose(motion.velocity[:, 0], velocities, atol=1e-9)
    couples = billiards.pairs(6)
    assert [{couples[pair] for pair in np.flatnonzero(row)} for row in motion.struck[:, 0]] == struck
    assert any(struck)


def test_balls_that_overlap_do_not_stick_together():
    position = np.array([[[32.0, 28.0], [32.0, 36.0]]])  # 2 pixels deep, parting slowly
    velocity = np.array([[[0.0, -0.1], [0.0, 0.1]]])
    motion = billiards.moved(position, velocity, RADII[[0, 0]][None], MASSES[[0, 0]][None], SIZE, 30, 2)
    assert not motion.struck.any()
    np.testing.assert_allclose(motion.velocity, np.broadcast_to(velocity, motion.velocity.shape))


# ---- Starts.


def test_starts_are_free():
    kind = np.random.default_rng(1).integers(2, size=(300, 8))
    present = np.arange(8) < np.random.default_rng(2).integers(1, 9, size=(300, 1))
    start = billiards.free_starts(np.random.default_rng(0), RADII[kind], present, SIZE)
    np.testing.assert_array_equal(np.isnan(start), ~np.repeat(present[..., None], 2, -1))
    with np.errstate(invalid="ignore"):
        assert not (distances(start) < sums_of_radii(RADII[kind])).any()
    assert np.nanmin(start - RADII[kind][..., None]) >= 0
    assert np.nanmin(SIZE - RADII[kind][..., None] - start) >= 0


def test_a_lone_ball_starts_anywhere():
    one = np.ones((8000, 1))
    start = billiards.free_starts(np.random.default_rng(0), 10 * one, one > 0, SIZE)[:, 0]
    counts, _, _ = np.histogram2d(*start.T, bins=4, range=[[10, 54]] * 2)
    assert np.abs(counts - 500).max() < 5 * 500**0.5


def test_speeds_have_one_sum_and_every_direction():
    present = np.arange(8) < np.arange(1, 9).repeat(500)[:, None]
    velocity = billiards.scaled_velocities(np.random.default_rng(0), present, 3.0)
    np.testing.assert_allclose(np.nansum(velocity**2, (1, 2)), 9.0)
    np.testing.assert_array_equal(np.isnan(velocity), ~np.repeat(present[..., None], 2, -1))
    direction = np.arctan2(velocity[..., 0], velocity[..., 1])[present]
    counts, _ = np.histogram(direction, bins=8, range=(-np.pi, np.pi))
    assert np.abs(counts - len(direction) / 8).max() < 5 * (len(direction) / 8) ** 0.5
    squares = (velocity[-500:] ** 2).sum(-1)  # of eight balls: not all of one speed
    assert squares.std() == pytest.approx(9 / 8 * 0.9, rel=0.15)


def test_a_longer_motion_begins_with_the_shorter():
    for short, long in zip(drawn(3, 8, nr_frames=7)[0], drawn(3, 8, nr_frames=40)[0]):
        np.testing.assert_array_equal(short, long[:7])
