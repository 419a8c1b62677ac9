"""NST: cross-entropy + nst.weight * discrepancy of the channels' maps (Huang and Wang 2017).

python -m craft_jax.main --config=configs/nst.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "nst"
    return config
