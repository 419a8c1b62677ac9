"""AugMix: cross-entropy + augmix.weight * Jensen-Shannon divergence of the views (Hendrycks et al. 2020).

    python -m craft_jax.main --config=configs/augmix.py[:preset]

No teacher: robust by data alone, with operations that are none of the test corruptions. Two views, as in its
paper, whatever the preset. A teacher made so for another method is --config.teacher.method=augmix there.
"""

from configs import default


def get_config(preset=""):
    config = default.get_config(preset)
    config.method = "augmix"
    config.views.kind = "augmix"
    config.views.count = 2
    return config
