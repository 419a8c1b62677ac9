"""DKD: cross-entropy + KD of the true class (alpha) and among the others (beta) (Zhao et al. 2022).

python -m craft_jax.main --config=configs/dkd.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "dkd"
    return config
