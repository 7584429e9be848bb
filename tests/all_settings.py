"""What the tests of settings share: a value of every setting that is not its default, and how flags are parsed."""

from absl import flags

from nem_tf import cli
from nem_tf.settings import define_flags, given_flags, resolve

OTHER = {
    "dataset": "flying_shapes_5",
    "train_size": 640,
    "valid_size": 99,
    "nr_steps": 12,
    "noise": "masked_uniform",
    "noise_prob": 0.1,
    "k": 7,
    "network": "static_rnn_em",
    "widths": "8,16",
    "mixture": "gaussian",
    "prior": "mean",
    "e_sigma": 0.3,
    "gamma_gradient": True,
    "target": "same_frame",
    "loss_inter_weight": 0.2,
    "loss_step_weights": "0.5,2",
    "batch_size": 16,
    "passes": 2,
    "curriculum": "4,10@6000",
    "learning_rate": 1 / 3,
    "warmup_steps": 10,
    "hold_steps": 20,
    "decay_steps": 30,
    "ema_momentum": 0.999,
    "clip_norm": 500.0,
    "init_from": "runs/a run = before #1",
    "test_size": 77,
    "max_epochs": 3,
    "max_steps": 1000,
    "patience": 4,
    "jit": "off",
    "unroll": "off",
    "precision": "mixed_bfloat16",
    "steps_per_call": 5,
    "shares": 2,
    "distribute": "mirrored",
    "data_dir": "~/some data",
    "mnist": "~/some idx",
    "run_dir": "runs/[1] --k=3",
    "compiled_dir": "~/.cache/xla",
    "seed": 2**32 - 1,
}


def parsed(*args):
    """The settings of a run that a command line gives."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    flag_values(["program", *cli.flagfiles_first(map(str, args))])
    return resolve(given_flags(flag_values))
