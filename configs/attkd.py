"""Attention KD: cross-entropy + attention.weight * attention transfer (Zagoruyko and Komodakis 2017).

    python -m craft_jax.main --config=configs/attkd.py[:preset]

The reduction of the paper's equation is --config.attention.reduction=sum, with a weight of its own.
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "attkd"
    return config
