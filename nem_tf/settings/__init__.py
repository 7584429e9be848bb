"""The settings of a run, in groups; the flags made from them, and the flagfile that a run keeps. No TensorFlow."""

from nem_tf.settings.flagfile import (
    check_resume,
    define_flags,
    differences,
    from_flagfile,
    given_flags,
    resolve,
    to_flagfile,
)
from nem_tf.settings.groups import FIELDS, GROUPS, Settings

__all__ = [
    "FIELDS",
    "GROUPS",
    "Settings",
    "check_resume",
    "define_flags",
    "differences",
    "from_flagfile",
    "given_flags",
    "resolve",
    "to_flagfile",
]
