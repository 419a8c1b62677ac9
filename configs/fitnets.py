"""FitNets: cross-entropy + fitnets.weight * squared error of a regressed map (Romero et al. 2015).

python -m craft_jax.main --config=configs/fitnets.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "fitnets"
    return config
