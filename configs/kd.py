"""Logit KD: cross-entropy + kd.weight * T^2 KL(teacher || student) (paper, section 3.2).

    python -m craft_jax.main --config=configs/kd.py[:preset]

Of standardised logits (Sun et al. 2024), with their code's settings: --config.kd.standardize=True
--config.kd.temperature=2 --config.kd.weight=9.
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "kd"
    return config
