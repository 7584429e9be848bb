import nem_tf  # noqa: F401, before TensorFlow, so that the benchmarks compute as the programs do
