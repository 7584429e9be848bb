"""What is computed in float32 whatever the precision of the networks."""

from typing import Any

import keras


def float32_only(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the keyword arguments of a layer, its dtype float32 also where Keras' global policy is another.

    Responsibilities are ratios of probabilities that may all be tiny, and a loss is a sum over all pixels: neither can
    be had in 16 bits. The layers of the networks follow policies of their own.

    Raises:
        ValueError: they name another dtype.
    """
    dtype = kwargs.get("dtype") or "float32"
    if keras.dtype_policies.get(dtype).compute_dtype != "float32":
        raise ValueError(f"this layer computes in float32; received dtype={dtype}")
    return {**kwargs, "dtype": "float32"}
