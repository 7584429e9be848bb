"""The tables of the paper from records: what is one row, what stands in it, and that no cell is ever nan."""

import itertools

import numpy as np
import pytest
from records import identity_of, make_record, origin_of, spread

from nem_tf.scoring import tables
from nem_tf.scoring.naming import differences

AMI = "AMI, mean over steps"
LAST = "AMI, last step"
PUBLISHED = "AMI, published"


def experiment(record):
    return tables.Name(f"{record.trained['data']['dataset']}, K {record.trained['model']['k']}")


def published(record):
    """The paper's value for flying shapes, trained for the next frame and with nothing of its own."""
    as_in_paper = record.trained["model"]["target"] == "next_frame" and not differences(record).keys() - {"k"}
    return tables.Published(0.970, 0.005) if as_in_paper and record.trained["model"]["k"] == 3 else None


def objects(record):
    dataset = record.tested_data["dataset"]
    return int(dataset.partition("flying_shapes_")[2] or 3) if dataset.startswith("flying_shapes") else None


def grouping(*records):
    """The rows as dictionaries."""
    rows = tables.grouping_table(records, published, experiment)
    rows = [[str(cell) for cell in row] for row in rows]
    assert not any("nan" in cell or "None" in cell for row in rows for cell in row)
    return [dict(zip(tables.GROUPING_COLUMNS, row, strict=True)) for row in rows]


def of_run(seed=0, ami=0.9, last=0.95, **changes):
    """A record with all grouping scores, of a run of its own directory."""
    names = ("ari", "ari_last", "ari_video", "mbo", "mbo_last")
    scores = {"ami": ami, "ami_last": last, **{name: 0.1 * i for i, name in enumerate(names, 2)}}
    return make_record(seed=seed, scores=scores, run_dir=f"runs/{seed}", **changes)


def test_seeds_are_one_row_with_both_ami_beside_the_published_one():
    (row,) = grouping(*(of_run(seed, ami, ami + 0.02) for seed, ami in enumerate((0.8, 0.85, 0.9))))
    assert row == {
        "experiment": "flying_shapes, K 3",
        "tested on": "flying_shapes, K 3, 20 steps",
        "runs": "3",
        "training steps": "7,810",
        AMI: "0.850 ± 0.050",
        LAST: "0.870 ± 0.050",
        PUBLISHED: "0.970 ± 0.005",
        "ARI, mean over steps": "0.200 ± 0.000",
        "ARI, last step": "0.300 ± 0.000",
        "ARI of the video": "0.400 ± 0.000",
        "mBO": "0.500 ± 0.000",
    }


def test_the_published_value_stands_beside_both_numbers_and_a_sentence_says_why():
    headings = list(tables.GROUPING_COLUMNS)
    assert headings.index(PUBLISHED) == headings.index(LAST) + 1 == headings.index(AMI) + 2
    assert "nobody knows which of the two" in tables.GROUPING_NOTE


def test_a_short_and_a_long_training_are_two_rows_that_can_be_told_apart():
    short = of_run(0, 0.4, max_steps=781, training={"step": 781})
    long = of_run(1, 0.96, training={"step": 390000})
    rows = grouping(short, long)
    assert {(row["experiment"], row["training steps"], row["runs"]) for row in rows} == {
        ("flying_shapes, K 3 (max_steps 781)", "781", "1"),
        ("flying_shapes, K 3 (max_steps 0)", "390,000", "1"),
    }


def test_an_unfinished_run_says_so():
    unfinished = of_run(0, 0.4, training={"step": 781, "finished": None})
    rows = grouping(unfinished, of_run(1, training={"step": 390000}))
    assert [(row["experiment"], row["training steps"]) for row in rows] == [
        ("flying_shapes, K 3", "390,000"),
        ("flying_shapes, K 3 (unfinished at step 781)", "781, unfinished"),
    ]


def test_early_stopping_at_different_steps_is_a_repetition():
    (row,) = grouping(of_run(0), of_run(1, training={"step": 9000}))
    assert row["training steps"] == "7,810 to 9,000"


def test_a_denoiser_is_never_beside_a_published_value():
    rows = grouping(of_run(0), of_run(1, 0.5, target="same_frame"))
    assert [(row["experiment"], row[AMI], row[PUBLISHED]) for row in rows] == [
        ("flying_shapes, K 3 (target next_frame)", "0.900", "0.970 ± 0.005"),
        ("flying_shapes, K 3 (target same_frame)", "0.500", ""),
    ]


def test_direct_and_staged_training_are_two_rows_and_seeds_of_a_stage_one():
    first = {seed: of_run(seed, trained_data=identity_of("flying_mnist_2_20")) for seed in (0, 1)}
    staged = [
        of_run(seed, 0.99, init_from=f"runs/first{seed}", training={"origin": origin_of(first[seed])})
        for seed in (0, 1)
    ]
    rows = grouping(of_run(0, 0.8), *staged)
    assert sorted((row[AMI], row["runs"]) for row in rows) == [("0.800", "1"), ("0.990 ± 0.000", "2")]
    assert len({row["experiment"] for row in rows}) == 2


def test_rows_are_sorted_whatever_the_order_of_the_records():
    records = [of_run(), of_run(tested={"k": 5}), of_run(k=5), of_run(dataset="flying_shapes_5")]
    expected = [
        ("flying_shapes, K 3", "flying_shapes, K 3, 20 steps"),
        ("flying_shapes, K 3", "flying_shapes, K 5, 20 steps"),
        ("flying_shapes, K 5", "flying_shapes, K 5, 20 steps"),
        ("flying_shapes_5, K 3", "flying_shapes_5, K 3, 20 steps"),
    ]
    for order in itertools.permutations(records):
        assert [(row["experiment"], row["tested on"]) for row in grouping(*order)] == expected


def test_no_row_without_grouping_scores_and_no_cell_without_a_value():
    assert grouping(make_record(scores={"loss": 1.0}), of_run(k=1)) == []
    (row,) = grouping(make_record(scores={"ami": None, "ami_last": 0.5}))
    assert (row[AMI], row[LAST], row["mBO"]) == ("", "0.500", "")
    (row,) = grouping(of_run(0, None), of_run(1, 0.5))
    assert row[AMI] == "0.500"


def relational(*records):
    """The rows of R-NEM's table, where a part of a record says what it is, as dictionaries."""

    def part(record):
        if record.tested["data"]["dataset"] == "flying_shapes_5":
            return "more"
        return {None: "own", 19: "rollout"}.get(record.rollout_from)

    rows = tables.relational_table(records, part, experiment, lambda record: -record.trained["model"]["k"])
    rows = [[str(cell) for cell in row] for row in rows]
    assert not any("nan" in cell or "None" in cell for row in rows for cell in row)
    return [dict(zip(tables.RELATIONAL_COLUMNS, row, strict=True)) for row in rows]


def test_all_evaluations_of_a_training_are_one_row():
    def run(seed, more=0.0, **changes):
        own = {"relative": 0.5 + more, "collision_relative": 0.7, "ari": 0.8, "ari_last": 0.9, "ari_last10": 0.85}
        place = {"seed": seed, "run_dir": f"runs/{seed}", **changes}
        rolled = {"relative": 0.55, "relative_imagined": 0.95, "ari": 0.1}
        return [
            make_record(scores=own, **place),
            make_record(scores=rolled, tested={"nr_steps": 30}, record={"rollout_from": 19}, **place),
            make_record(scores={"relative": 0.6, "ari": 0.7}, tested={"dataset": "flying_shapes_5"}, **place),
            make_record(scores={"relative": 9.0}, record={"rollout_from": 3}, **place),
        ]

    many, single = relational(*run(2, k=1), *run(0), *run(1, 0.1))
    assert many == {
        "experiment": "flying_shapes, K 3",
        "runs": "2",
        "training steps": "7,810",
        "relative loss": "0.550 ± 0.071",
        "of collisions": "0.700 ± 0.000",
        "imagined": "0.950 ± 0.000",
        "ARI, mean over steps": "0.800 ± 0.000",
        "ARI, last step": "0.900 ± 0.000",
        "ARI, last 10": "0.850 ± 0.000",
        "kept": "",
        "6-8 balls, relative loss": "0.600 ± 0.000",
        "6-8 balls, of collisions": "",
        "6-8 balls, ARI": "0.700 ± 0.000",
    }
    assert (single["experiment"], single["relative loss"], single["imagined"]) == (
        "flying_shapes, K 1",
        "0.500",
        "0.950",
    )
    assert single["ARI, mean over steps"] == single["6-8 balls, ARI"] == ""  # one component groups nothing
    rows = relational(*run(0), *run(1, max_steps=5))
    assert {row["experiment"] for row in rows} == {
        "flying_shapes, K 3 (max_steps 0)",
        "flying_shapes, K 3 (max_steps 5)",
    }
    assert relational(make_record(), make_record(scores={"relative": 1.0}, record={"rollout_from": 3})) == []


def test_a_run_that_was_tested_twice_counts_once_with_the_more_sequences():
    def test_of(value, sequences, size):
        scores = {"relative": value, "ari": value}
        return make_record(scores=scores, tested={"test_size": size}, record={"sequences": sequences})

    for records in ((test_of(0.5, 100, 100), test_of(0.9, 10, 10)), (test_of(0.9, 10, 10), test_of(0.5, 100, 100))):
        (row,) = relational(*records)
        assert (row["runs"], row["relative loss"]) == ("1", "0.500")


def test_seeds_that_lie_in_one_directory_are_runs_each():
    records = [make_record(scores={"relative": 0.5 + seed, "ari": 0.5}, seed=seed, run_dir="p") for seed in range(3)]
    (row,) = relational(*records)
    assert (row["runs"], row["relative loss"]) == ("3", "1.500 ± 1.000")


def test_cross_entropies_are_those_of_the_last_step_of_what_was_tested_as_trained():
    def run(n, value, **changes):
        dataset = "flying_shapes" + (f"_{n}" if n != 3 else "")
        scores = {"upper_bound": 1000.0, "upper_bound_last": value}
        return make_record(dataset=dataset, **{"k": n, "scores": scores, **changes})

    records = [run(n, 100.0 + n) for n in (5, 3, 4)]
    records += [run(n, 120.0 + n, k=1) for n in (3, 4, 5)]
    records += [run(n, 50.0 + n, k=1, target="same_frame") for n in (3, 4, 5)]
    records += [
        run(3, 103.5, seed=1),
        run(3, 1.0, k=5),  # more components than objects
        run(3, 1.0, tested={"nr_steps": 50}),
        run(3, 1.0, tested={"dataset": "flying_shapes_4"}),
        run(3, 1.0, tested_data=identity_of(seed=1)),
        run(3, 1.0, record={"which": "latest"}),
        run(3, 1.0, trained_data=identity_of("other")),
        run(3, None),
    ]

    def by_name(records):
        return {str(name): values for name, values in tables.cross_entropies(records, objects).items()}

    found = by_name(records)
    assert found == {
        "RNN-EM (upper bound), next step": {3: [103.0, 103.5], 4: [104.0], 5: [105.0]},
        "recurrent autoencoder, denoising": {n: [50.0 + n] for n in (3, 4, 5)},
        "recurrent autoencoder, next step": {n: [120.0 + n] for n in (3, 4, 5)},
    }
    assert [list(by_objects) for by_objects in found.values()] == [[3, 4, 5]] * 3
    elsewhere = run(3, 300.0, k=1, trained_data=identity_of(seed=1))
    assert sorted(by_name([*records, elsewhere]).values(), key=len)[0] == {3: [300.0]}
    each_its_own = [run(3, 1.0, max_steps=100), run(4, 2.0, max_steps=200), run(5, 3.0, max_steps=200)]
    assert by_name(each_its_own) == {
        "RNN-EM (upper bound), next step (a recipe for each number of objects)": {3: [1.0], 4: [2.0], 5: [3.0]}
    }
    short = [run(n, 200.0, max_steps=781) for n in (3, 4)]
    assert by_name([*records, *short]).keys() == {
        "RNN-EM (upper bound), next step (max_steps 0)",
        "RNN-EM (upper bound), next step (max_steps 781)",
        "recurrent autoencoder, denoising",
        "recurrent autoencoder, next step",
    }


def test_the_longest_test_of_every_run_is_drawn():
    def tested(steps, ami=0.8, **changes):
        changes.setdefault("tested", {})
        changes["tested"] = {"nr_steps": steps, **changes["tested"]}
        return make_record(scores={"ami": ami}, **changes)

    curves = tables.longer_sequences(
        [
            tested(20),
            tested(50),
            tested(30, 0.7),
            tested(60, 0.6, tested={"k": 5}),
            tested(60, 0.6, tested={"dataset": "flying_shapes_5"}),
            tested(60, 0.6, tested_data=identity_of(seed=1)),
            tested(60, 0.6, record={"rollout_from": 10}),
            tested(40, 0.5, seed=1, run_dir="runs/other", tested={"test_size": 10}),
            tested(45, 0.4, seed=4, run_dir="runs/other"),
            tested(50, 0.5, seed=2, run_dir="runs/autoencoder", k=1),
            tested(10, 0.5, seed=3, run_dir="runs/shorter"),
        ]
    )
    assert [(curve.title, curve.spread, curve.trained_steps) for curve in curves] == [
        ("runs/flying_shapes_k3\nflying_shapes, K 3, 50 steps", spread(0.8, 50), 20),
        ("runs/other, seed 1\nflying_shapes, K 3, 40 steps, test_size 10", spread(0.5, 40), 20),
        ("runs/other, seed 4\nflying_shapes, K 3, 45 steps", spread(0.4, 45), 20),
    ]


def test_the_table_of_one_evaluation():
    scores = {"loss": 100.0, "loss_last": 90.0, "ami": 0.9, "ami_last": None, "ari_video": 0.75}
    record = make_record(scores=scores, tested={"nr_steps": 3}, record={"sequences": 10000})
    assert tables.table(record).splitlines() == [
        "flying_shapes, K 3, 3 steps: 10,000 test sequences, best/ckpt-10",
        "score                  mean  last step        std        q25     median        q75",
        "loss               100.0000    90.0000     0.0100     0.0100     0.0100     0.0100",
        "ami                  0.9000          -     0.0100     0.0100     0.0100     0.0100",
        "ari_video                 -     0.7500     0.0100     0.0100     0.0100     0.0100",
        "ami of steps 1 to 3: 0.90 0.90 0.90",
    ]


def test_the_table_of_a_roll_out_has_a_column_for_every_part_of_it():
    names = ("", "_last", "_last10", "_seen", "_imagined")
    scores = {f"collision_relative{suffix}": float(i) for i, suffix in enumerate(names)}
    lines = tables.table(make_record(scores={**scores, "kept": 0.5}, record={"rollout_from": 3})).splitlines()
    assert lines[1].split() == ["score", "mean", "last", "step", "last", "10", "seen", "imagined", "std", "q25",
                                "median", "q75"]  # fmt: skip
    assert lines[2].split() == ["collision_relative", *(f"{i}.0000" for i in range(5)), *["0.0100"] * 4]
    assert lines[3].split() == ["kept", "0.5000", *"----", *["0.0100"] * 4]
    assert len({len(line) for line in lines[1:]}) == 1


def test_the_table_of_data_without_labels_has_no_grouping_scores():
    text = tables.table(make_record(scores={"loss": 100.0, "loss_last": 90.0}))
    assert "ami" not in text
    assert "nan" not in text
    assert len(text.splitlines()) == 3


def test_the_columns_of_a_table_stand_below_each_other():
    text = tables.markdown(["a", "b"], [["1", "x|y"], ["", "2"]], tables.Notes())
    assert text == "| a   | b        |\n| --- | -------- |\n| 1   | x&#124;y |\n|     | 2        |"


def test_settings_are_a_number_in_all_tables_that_share_their_notes():
    notes = tables.Notes()
    names = [tables.Name("one", "k 5"), tables.Name("two"), tables.Name("three", "k 7"), tables.Name("four", "k 5")]
    first, second = (tables.markdown(["name"], [[name] for name in some], notes) for some in (names[:2], names[2:]))
    assert [line.strip("| ") for line in first.splitlines()[2:]] == ["one [1]", "two"]
    assert [line.strip("| ") for line in second.splitlines()[2:]] == ["three [2]", "four [1]"]
    assert notes.listed() == "- [1] k 5\n- [2] k 7"


@pytest.mark.parametrize(("values", "text"), [([], ""), ([0.5], "0.500"), ([0.5, 0.7], f"0.600 ± {np.sqrt(0.02):.3f}")])
def test_over_runs(values, text):
    assert tables.over_runs(values) == text
