"""RKD: cross-entropy + rkd.weight * distances and angles between images (Park et al. 2019).

python -m craft_jax.main --config=configs/rkd.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "rkd"
    return config
