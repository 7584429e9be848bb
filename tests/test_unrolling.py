"""Step weights and curricula: what is taken, what is refused, and what it means."""

import pytest

from nem_tf.unrolling import Stage, parse_curriculum, stage_at, step_weights


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", [1, 1, 1]),
        ("mean", [1 / 3, 1 / 3, 1 / 3]),
        ("last", [0, 0, 1]),
        ("0.5, 1,2", [0.5, 1, 2]),
        ("0,1,0", [0, 1, 0]),
        ([1, 2], [0, 1, 2]),
        ((3,), [0, 0, 3]),
    ],
)
def test_step_weights(spec, expected):
    assert step_weights(spec, 3) == expected


@pytest.mark.parametrize("spec", ["first", "1,2,3,4", "1,-1,1", "0,0", "", [], "1,nan", "1,inf", [0.0], "1;2"])
def test_step_weights_refused(spec):
    with pytest.raises(ValueError, match="step weights"):
        step_weights(spec, 3)


def test_stages_and_what_is_left_of_them():
    stages = parse_curriculum("6,10@4000,20@8000", 20)
    assert stages == [Stage(0, 6), Stage(4000, 10), Stage(8000, 20)]
    assert [stage_at(stages, step) for step in (0, 3999, 4000, 7999, 8000, 10**6)] == [
        (6, 4000), (6, 1), (10, 4000), (10, 1), (20, None), (20, None)
    ]  # fmt: skip
    assert parse_curriculum("", 7) == [Stage(0, 7)]
    assert stage_at([Stage(0, 7)], 10**6) == (7, None)
    assert parse_curriculum("6,3@5", 20) == [Stage(0, 6), Stage(5, 3)]  # shorter ones may come later


@pytest.mark.parametrize(
    "spec", ["6;10", "6,10", "6@10", "6,10@9,20@9", "6,10@20,5@10", "0", "6,21@5", "21", "6,,7@3", "six", "6,10@-1"]
)
def test_text_that_is_no_curriculum(spec):
    with pytest.raises(ValueError, match=f"'{spec}' is no curriculum: expected EM steps, at most 20"):
        parse_curriculum(spec, 20)
