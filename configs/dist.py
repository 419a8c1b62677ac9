"""DIST: cross-entropy + correlation of the predictions, by image and by class (Huang et al. 2022).

python -m craft_jax.main --config=configs/dist.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "dist"
    return config
