"""Timings. What is set here is read when TensorFlow is imported: before it, so that they compute as the programs do."""

import os

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes share a GPU

import nem_tf  # noqa: F401
