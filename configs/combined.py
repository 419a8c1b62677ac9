"""A sum of methods: cross-entropy + the terms of combined.methods, each with its own weight; here KD + CRD.

    python -m craft_jax.main --config=configs/combined.py[:preset]
    python -m craft_jax.main --config=configs/combined.py --config.combined.methods=kd,sp    # SP + KD
    python -m craft_jax.main --config=configs/combined.py --config.combined.methods=craft,crd

A term of weight 0 is not computed, and its parameters and memory are not made. Beside kd, CRAFT gives its
contrastive and its de-alignment term alone: KD is there once, and not weighted by the reliability.
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "combined"
    return config
