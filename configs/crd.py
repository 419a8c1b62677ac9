"""CRD: cross-entropy + crd.weight * contrastive representation distillation (Tian et al. 2020).

python -m craft_jax.main --config=configs/crd.py[:preset]
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "crd"
    return config
