import os

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes share a GPU; read by TensorFlow's import

import nem_tf  # noqa: F401, before TensorFlow, so that the benchmarks compute as the programs do
