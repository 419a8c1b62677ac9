"""CRAFT: cross-view alignment and KD weighted by reliability, de-alignment by its complement (paper, 3.5).

    python -m craft_jax.main --config=configs/craft.py[:preset]

Measured (CPU, one seed each): digits 94% clean in about a minute (README); cifar10_cpu with --config.epochs=5
76% clean in 26 minutes beside other work (results/cifar10_cpu).

Ablations are overrides: --config.contrastive.weight=0, --config.dealign.weight=0,
--config.dealign.form=shift, --config.contrastive.positives=each, and, for r = 1/2 everywhere,
--config.reliability.alpha=0 --config.reliability.beta=0. Without the contrastive term nothing trains the
projections, and de-alignment then sees the student through a fixed random one.
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "craft"
    return config
