"""From scores of sequences and steps to the numbers of a record."""

import math

import numpy as np
import pytest

from nem_tf.scoring import summary
from nem_tf.unrolling import Rollout

pytestmark = pytest.mark.filterwarnings("error")


def test_a_score_is_the_mean_over_the_steps_and_the_last_step_whatever_the_training_weighs():
    ami = np.array([[0.0, 0.5, 1.0], [0.2, 0.2, 0.8]])
    scores, per_step = summary.summarise([{"ami": ami}], np.array([0.0, 0.0, 1.0]))
    assert scores["ami"]["mean"] == pytest.approx((0.5 + 0.4) / 2)
    assert scores["ami"]["std"] == pytest.approx(0.05)
    assert scores["ami_last"]["mean"] == pytest.approx(0.9)
    assert scores["ami_last"]["q25"] == pytest.approx(0.85)
    assert list(scores) == ["ami", "ami_last"]
    np.testing.assert_allclose(per_step["ami"]["mean"], [0.1, 0.35, 0.9])
    np.testing.assert_allclose(per_step["ami"]["median"], [0.1, 0.35, 0.9])


def test_losses_are_per_em_step_as_training_weighs_the_steps():
    losses = {name: np.array([[1.0, 2.0, 4.0]]) for name in ("loss", "intra", "inter", "upper_bound")}
    scores, _ = summary.summarise([losses], np.array([0.0, 1.0, 3.0]))
    for name in ("loss", "intra", "inter"):
        assert scores[name]["mean"] == pytest.approx((2 + 3 * 4) / 4)
        assert scores[f"{name}_last"]["mean"] == 4
    assert scores["upper_bound"]["mean"] == pytest.approx(7 / 3)
    assert scores["upper_bound_last"]["mean"] == 4


def test_a_step_that_training_ignores_may_diverge():
    losses = {"loss": np.array([[np.inf, 2.0]])}
    assert summary.means(losses, np.array([0.0, 1.0]))["loss"] == 2


def test_the_ari_of_the_video_is_that_of_its_last_step():
    scores, per_step = summary.summarise([{"ari_video": np.array([[0.1, 0.9]])}], np.ones(2))
    assert scores.keys() == {"ari_video"}
    assert scores["ari_video"]["mean"] == 0.9
    assert per_step["ari_video"]["mean"] == [0.1, 0.9]


def test_frames_without_a_labelled_pixel_are_left_out():
    nan = np.nan
    ami = np.array([[nan, 0.4, 0.6], [0.1, 0.3, nan], [nan, nan, nan]])
    scores, per_step = summary.summarise([{"ami": ami}], np.ones(3))
    assert scores["ami"]["mean"] == pytest.approx((0.5 + 0.2) / 2)  # per sequence first
    assert scores["ami_last"]["mean"] == 0.6
    assert scores["ami_last"]["std"] == 0
    np.testing.assert_allclose(per_step["ami"]["mean"], [0.1, 0.35, 0.6])
    means = summary.means({"ami": ami}, np.ones(3))
    assert means == {name: scores[name]["mean"] for name in scores}


def test_a_score_that_no_sequence_has_is_none_and_warns_of_nothing():
    ami = np.full((2, 3), np.nan)
    for draws in ([{"ami": ami}], [{"ami": ami}] * 2):
        scores, per_step = summary.summarise(draws, np.ones(3))
        assert set(scores["ami"].values()) == set(scores["ami_last"].values()) == {None}
        assert per_step["ami"]["q75"] == [None] * 3
    assert math.isnan(summary.means({"ami": ami}, np.ones(3))["ami"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["loss", "upper_bound", "collision_loss"])
def test_the_loss_of_a_diverged_model_is_not_left_out(name, bad):
    losses = {name: np.array([[1.0, 1.0], [1.0, bad]])}
    for draws in ([losses], [losses] * 2):
        scores, per_step = summary.summarise(draws, np.ones(2))
        assert scores[name]["mean"] is None
        assert scores[f"{name}_last"]["mean"] is None
        assert per_step[name]["mean"] == [1, None]
    assert not math.isfinite(summary.means(losses, np.ones(2))[name])


def test_a_loss_is_also_told_relative_to_what_repeats_the_current_frame():
    """The quotient of the means, since that of one sequence may be infinite; its quartiles are those of the others."""
    above, below = np.array([[1.0, 5.0], [2.0, 2.0], [3.0, 1.0]]), np.array([[4.0, 4.0], [1.0, 3.0], [0.0, 0.0]])
    losses = {"upper_bound": above, "baseline": below, "collision_upper_bound": below, "collision_baseline": 0 * below}
    scores, per_step = summary.summarise([losses], np.array([0.0, 1.0]))
    assert list(scores)[:6] == ["upper_bound", "upper_bound_last", "baseline", "baseline_last", "relative",
                                "relative_last"]  # fmt: skip
    assert scores["relative"]["mean"] == pytest.approx(14 / 12)
    assert scores["relative"]["median"] == pytest.approx((6 / 8 + 4 / 4) / 2)
    assert scores["relative_last"]["mean"] == pytest.approx(8 / 7)
    np.testing.assert_allclose(per_step["relative"]["mean"], [6 / 5, 8 / 7])
    assert set(scores["collision_relative"].values()) == {None}  # nothing collides
    means = summary.means(losses, np.ones(2))
    assert means["relative"] == pytest.approx(14 / 12)
    assert math.isnan(means["collision_relative"])
    two, _ = summary.summarise([losses, {**losses, "upper_bound": 2 * above}], np.ones(2))
    assert two["relative"]["mean"] == pytest.approx(1.5 * 14 / 12)
    assert two["relative"]["initialisation_std"] == pytest.approx(14 / 12 / np.sqrt(2))
    assert "relative" not in summary.means({"upper_bound": above}, np.ones(2))
    bad = summary.summarise([{**losses, "upper_bound": above * np.nan}], np.ones(2))[0]
    assert bad["relative"]["mean"] is bad["upper_bound"]["mean"] is None


def test_the_deviation_of_a_quotient_is_that_of_its_mean_over_other_sequences(rng):
    below = rng.gamma(2.0, 100.0, (400, 1))
    losses = {"upper_bound": below * rng.uniform(0.1, 0.3, below.shape), "baseline": below}
    parted = [
        losses,
        *({name: values[part] for name, values in losses.items()} for part in np.split(np.arange(400), 20)),
    ]
    whole, *parts = [summary.summarise([each], np.ones(1))[0]["relative"] for each in parted]
    assert whole["std"] == pytest.approx(np.std([part["mean"] for part in parts]) * np.sqrt(20), rel=0.3)
    below[0], losses["upper_bound"][0] = 1e-6, 1.0  # nothing happens in it, and something was predicted
    rare = summary.summarise([losses], np.ones(1))[0]["relative"]
    assert rare["std"] == pytest.approx(whole["std"], rel=0.1)


def test_of_what_does_not_move_no_loss_is_relative(rng):
    still = np.full((3, 12), 64 * 64 * 1e-6)  # what clipping leaves of the cross entropy
    scores, per_step = summary.summarise([{"upper_bound": rng.random((3, 12)), "baseline": still}], np.ones(12))
    assert set(scores["relative"].values()) == {None}
    assert per_step["relative"]["mean"] == [None] * 12
    assert scores["baseline"]["mean"] == pytest.approx(0.004096)


def test_of_a_long_sequence_the_last_ten_steps_are_told_too(rng):
    ami = rng.random((3, 14))
    ami[0, 4] = np.nan
    scores, _ = summary.summarise([{"ami": ami, "ari_video": ami, "loss": ami + 1}], np.eye(14)[3])
    expected = np.mean([np.nanmean(row[-10:]) for row in ami])
    assert scores["ami_last10"]["mean"] == pytest.approx(expected)
    assert "ari_video_last10" not in scores
    short, _ = summary.summarise([{"ami": ami[:, :10]}], np.ones(10))
    assert list(short) == ["ami", "ami_last"]
    assert summary.means({"ami": ami}, np.ones(14)).keys() == {"ami", "ami_last"}


def test_a_roll_out_is_told_by_what_was_seen_and_what_is_imagined():
    loss = np.arange(12.0).reshape(2, 6)
    scores, per_step = summary.summarise([{"loss": loss, "kept": loss}], np.ones(6), Rollout(2, "soft"))
    assert scores["loss_seen"]["mean"] == pytest.approx(loss[:, :3].mean())
    assert scores["loss_imagined"]["mean"] == pytest.approx(loss[:, 3:].mean())
    assert len(per_step["loss"]["mean"]) == 6
    assert [name for name in scores if name.startswith("kept")] == ["kept", "kept_seen", "kept_imagined"]
    without, _ = summary.summarise([{"loss": loss}], np.ones(6), Rollout(5))
    assert list(without) == ["loss", "loss_last"]  # nothing is imagined


def test_names_and_their_suffixes():
    for name in ("ami", "kept", "collision_relative"):
        for suffix in summary.SUFFIXES:
            assert summary.split_name(name + suffix) == (name, suffix)


def test_several_initialisations_are_pooled_and_the_spread_of_their_means_is_told():
    draws = [{"ami": np.array([[0.2], [0.4]])}, {"ami": np.array([[0.6], [0.8]])}]
    scores, per_step = summary.summarise(draws, np.ones(1))
    assert scores["ami"]["mean"] == pytest.approx(0.5)
    assert scores["ami"]["initialisation_std"] == pytest.approx(np.std([0.3, 0.7], ddof=1))
    assert per_step["ami"]["mean"] == [pytest.approx(0.5)]
    assert "initialisation_std" not in summary.summarise(draws[:1], np.ones(1))[0]["ami"]


def test_what_cannot_be_summarised_is_refused():
    with pytest.raises(ValueError, match=r"ami: expected \[N, 2\], received \[4, 3\]"):
        summary.means({"ami": np.ones((4, 3))}, np.ones(2))
    with pytest.raises(ValueError, match="add up to 0"):
        summary.means({"ami": np.ones((4, 2))}, np.zeros(2))
