"""VID: cross-entropy + vid.weight * likelihood of the teacher's maps (Ahn et al. 2019).

python -m craft_jax.main --config=configs/vid.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "vid"
    return config
