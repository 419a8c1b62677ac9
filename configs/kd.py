"""Logit KD: cross-entropy + kd.weight * T^2 KL(teacher || student) (paper, section 3.2).

python -m craft_jax.main --config=configs/kd.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "kd"
    return config
