"""SP: cross-entropy + sp.weight * distance of the batch's similarities (Tung and Mori 2019).

python -m craft_jax.main --config=configs/sp.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "sp"
    return config
