"""ERM: cross-entropy on clean images (paper, section 3.2). No teacher.

python -m craft_jax.main --config=configs/erm.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "erm"
    return config
