"""The vectorised scores against scikit-learn, mask by mask, and by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from nem_tf.scoring import metrics


def random_masks(seed):
    """Groups and assignments of every size and number of labels, agreement from none to full."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(2, 29))
    groups = rng.integers(0, rng.integers(1, 7), (6, side, side))
    noise = rng.random(groups.shape) < rng.random()
    return groups, np.where(noise, rng.integers(0, rng.integers(1, 7), groups.shape), groups)


DEGENERATE = {
    "one object, one component": (np.ones((4, 4)), np.ones((4, 4))),
    "one object, many components": (np.ones((4, 4)), np.arange(16).reshape(4, 4)),
    "many objects, one component": (np.arange(16).reshape(4, 4), np.zeros((4, 4))),
    "all singletons": (np.arange(16).reshape(4, 4), np.arange(16).reshape(4, 4)[::-1]),
    "no labelled pixel": (np.zeros((4, 4)), np.arange(16).reshape(4, 4)),
    "one pixel": (np.eye(4)[0] * np.eye(4)[:1].T, np.ones((4, 4))),
    "perfect": (np.arange(16).reshape(4, 4) % 4, (np.arange(16).reshape(4, 4) % 4 + 2) % 4),
    "independent": (np.arange(16).reshape(4, 4) % 4 + 1, np.arange(16).reshape(4, 4) // 4),
}


def check(groups, assignment):
    """Compares every mask's scores with scikit-learn's; without a labelled pixel they are NaN, where it gives 1."""
    groups, assignment = groups.astype(int), assignment.astype(int)
    if groups.ndim == 2:
        groups, assignment = groups[None], assignment[None]
    scores = metrics.grouping_scores(groups, assignment)[:3]
    for index in np.ndindex(groups.shape[:-2]):
        true, pred = (labels[index][groups[index] > 0] for labels in (groups, assignment))
        expected = (
            adjusted_mutual_info_score(true, pred, average_method="max"),
            adjusted_mutual_info_score(true, pred, average_method="arithmetic"),
            adjusted_rand_score(true, pred),
        )
        expected = expected if true.size else (np.nan,) * 3
        np.testing.assert_allclose([score[index] for score in scores], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_random_masks(seed):
    check(*random_masks(seed))


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_masks(name):
    check(*DEGENERATE[name])


def test_degenerate_masks_in_one_batch():
    check(*(np.stack(masks) for masks in zip(*DEGENERATE.values())))


def test_in_small_chunks(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 100)
    check(*random_masks(3))


def test_contingency_leaves_background_and_overlap_out():
    groups, assignment = np.array([[[0, 1, 1], [2, 2, 0]]]), np.array([[[3, 0, 1], [1, 1, 0]]])
    table = metrics.contingency(groups, assignment)
    np.testing.assert_array_equal(table, [[[1, 1, 0, 0], [0, 2, 0, 0]]])
    foreground = groups > 0
    expected = contingency_matrix(groups[foreground], assignment[foreground])
    np.testing.assert_array_equal(table[0, :, :2], expected)


def test_scores_do_not_depend_on_the_order_of_components():
    groups, assignment = random_masks(11)
    relabelled = np.random.default_rng(0).permutation(8)[assignment]
    for one, other in zip(metrics.grouping_scores(groups, assignment), metrics.grouping_scores(groups, relabelled)):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_one_of_three_objects_split_in_two():
    groups = np.repeat([[1, 2, 3]], 4, axis=0).repeat(2, axis=1)[None]  # 8 pixels each
    assignment = groups.copy()
    assignment[:, :2, :2] = 0  # half of object 1
    scores = metrics.grouping_scores(groups, assignment)
    # MI is H_true = log 3, H_pred = log 3 + log 2 / 3; what is left to work out by hand is E[MI]'s hypergeometric sum.
    h_true, h_pred, expected = math.log(3), math.log(3) + math.log(2) / 3, 0.0
    for a in (8, 8, 8):
        for b in (8, 8, 4, 4):
            for n in range(1, min(a, b) + 1):
                chance = math.comb(b, n) * math.comb(24 - b, a - n) / math.comb(24, a)
                expected += n / 24 * math.log(24 * n / (a * b)) * chance
    assert scores.ami[0] == pytest.approx((h_true - expected) / (h_pred - expected))
    assert scores.ami_arithmetic[0] == pytest.approx((h_true - expected) / ((h_true + h_pred) / 2 - expected))
    assert scores.mbo[0] == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_the_published_normalisation_is_the_stricter_one():
    table = np.array([[20, 20, 0, 0], [0, 0, 40, 0], [0, 0, 0, 40]])
    assert metrics.ami(table, "max") == pytest.approx(0.823, abs=5e-4)
    assert metrics.ami(table, "arithmetic") == pytest.approx(0.903, abs=5e-4)
    assert metrics.ami(table) == metrics.ami(table, "max")


def test_a_frame_without_a_labelled_pixel_has_no_score():
    groups, assignment = np.ones((3, 4, 4), int), np.arange(16).reshape(4, 4) % 2 + np.zeros((3, 1, 1), int)
    groups[[0, 2]] = 0
    scores = metrics.grouping_scores(groups, assignment)
    for name in ("ami", "ami_arithmetic", "ari", "mbo"):
        np.testing.assert_array_equal(np.isnan(getattr(scores, name)), [True, False, True], err_msg=name)
    np.testing.assert_array_equal(np.isnan(scores.ari_video), [True, False, False])  # the video has seen frame 1
    assert all(np.isnan(score).all() for score in metrics.grouping_scores(0 * groups, assignment))


def test_confidence():
    groups = np.array([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    certainty = np.array([[[0.1, 0.5], [0.6, 1.0]]] * 2)
    np.testing.assert_allclose(metrics.confidence(certainty, groups), [0.7, np.nan])


@pytest.mark.parametrize("wrong", [-1, 0.5, 2**40, np.uint64(2**63)])
@pytest.mark.parametrize("which", [0, 1])
def test_labels_that_are_none_are_refused(which, wrong):
    """A negative one would be counted for the image before it."""
    labels = [np.ones((2, 1, 4, 4), type(wrong)), np.ones((2, 1, 4, 4), int)]
    labels[0][1, 0, 0, 0] = wrong
    with pytest.raises(ValueError, match=f"expected {('groups', 'assignment')[which]} to be whole numbers from 0 to"):
        metrics.grouping_scores(*(labels if which == 0 else labels[::-1]))


def test_what_is_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        metrics.contingency(np.zeros((2, 3, 3), int), np.zeros((3, 3), int))
    with pytest.raises(ValueError, match="average_method"):
        metrics.ami(np.ones((1, 2, 2), int), "min")
    with pytest.raises(ValueError, match="equal shapes"):
        metrics.confidence(np.ones((2, 3, 1)), np.ones((2, 3, 3), int))
    for of_videos in (metrics.grouping_scores, metrics.kept):
        with pytest.raises(ValueError, match=r"labels \[..., T, H, W\]"):
            of_videos(np.ones((3, 3), int), np.ones((3, 3), int))
    for score in (metrics.ami, metrics.ari, metrics.mean_best_overlap):
        for table in (-np.ones((2, 2), int), np.ones((2, 2)), np.ones(2, int)):
            with pytest.raises(ValueError, match="expected a table of counts"):
                score(table)


def test_a_table_of_any_whole_numbers_will_do():
    table = np.array([[3, 1, 0], [0, 2, 5]])
    for score in (metrics.ami, metrics.ari, metrics.mean_best_overlap):
        assert score(table.tolist()) == score(table.astype(np.uint8)) == score(table)


@pytest.mark.parametrize("n", [2, 10, 12, 14, 20, 36])
def test_objects_of_one_pixel_each_that_are_found_are_found_fully(n):
    """Where there is nothing to adjust for, what is left of both differences is how they are rounded."""
    for average_method in ("max", "arithmetic"):
        assert metrics.ami(np.eye(n, dtype=int), average_method) == 1


@pytest.mark.parametrize("seed", range(5))
def test_ari_of_the_video_is_that_of_all_frames_so_far_as_one_image(seed):
    groups, assignment = random_masks(seed)
    scores = metrics.grouping_scores(groups, assignment)
    for t in range(len(groups)):
        seen = groups[: t + 1] > 0
        expected = adjusted_rand_score(groups[: t + 1][seen], assignment[: t + 1][seen]) if seen.any() else np.nan
        assert scores.ari_video[t] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_an_identity_switch_costs_the_video_and_no_frame():
    frame = np.repeat([[1, 2]], 4, axis=0)
    groups = np.stack([frame, frame])
    scores = metrics.grouping_scores(groups, np.stack([frame, 3 - frame]))
    np.testing.assert_allclose(scores.ari, 1)
    assert scores.ari_video[0] == 1
    assert scores.ari_video[1] < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_mean_best_overlap_is_what_a_loop_finds(seed):
    groups, assignment = random_masks(seed)
    scores = metrics.grouping_scores(groups, assignment)
    for t, (true, pred) in enumerate(zip(groups, assignment)):
        best = [
            max(
                ((true == g) & (pred == k)).sum() / (((true == g) | (pred == k)) & (true > 0)).sum()
                for k in np.unique(pred)
            )
            for g in np.unique(true[true > 0])
        ]
        np.testing.assert_allclose(scores.mbo[t], np.mean(best) if best else np.nan)


def test_an_object_is_kept_if_its_component_is_the_same_before_and_after_it_is_hidden():
    """By the majority of its pixels in all frames before, and in all frames after: the first one shows a sliver."""
    groups = np.zeros((2, 7, 3, 4), np.uint8)
    groups[:, :, 0] = 1
    groups[:, [0, 1, 4, 5, 6], 1] = 2
    groups[:, 4, 1, 1:] = 0  # one pixel when it comes out
    groups[1, 2, 0] = 0
    groups[1, :, 2] = 4  # object 3 is never seen
    groups[1, 5:, 2] = 0
    assignment = np.zeros((2, 7, 3, 4), np.uint8)
    assignment[:, :, 1] = 2
    assignment[:, 1, 1, 0] = 1
    assignment[0, 4, 1] = 1  # a wrong sliver
    assignment[1, 4:, 1] = 1
    assignment[1, 6, 1] = 2
    scores = metrics.kept(groups, assignment)
    expected = np.full((2, 7), np.nan)
    expected[0, 4], expected[1, 3], expected[1, 4] = 1, 1, 0
    np.testing.assert_array_equal(scores, expected)
    # Two objects at once, of which one is kept; any leading axes; none at all.
    groups[1, 3, 0] = 0
    np.testing.assert_array_equal(metrics.kept(groups[None], assignment[None])[0, 1, 3:5], [np.nan, 0.5])
    assert np.isnan(metrics.kept(np.zeros((3, 2, 2), int), np.ones((3, 2, 2), int))).all()
