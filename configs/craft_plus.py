"""CRAFT+: CRAFT as a trial outside this repository left it, before any run here.

Every term sees all views; targets and anchors are the teacher's on the clean view; positives do not compete
("each"), and other images of the class are no negatives. The reliability stays. That trial looked at the
fifteen corruptions of the test: its clean confirmation is CIFAR-10-C-bar's eight that choose nothing
(`configs/studies/tuning.py` names the two that do).

    python -m craft_jax.main --config=configs/craft_plus.py[:preset]
"""

from configs import _presets, craft


def get_config(preset=""):
    config = craft.get_config(preset)
    _presets.matched(config)
    config.views.distill_target = "clean"
    config.contrastive.anchor = "clean"
    config.contrastive.positives = "each"
    config.contrastive.mask_same_class = True
    return config
