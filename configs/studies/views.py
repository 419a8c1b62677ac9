"""On the views that help most, AugMix's: what does distillation add, and what does CRAFT+ add to it?

Protocol, fixed before any of its runs and before primary.py's were compared: as primary.py (CIFAR-10 at
16x16, the same teacher and weights, 8 epochs, the same 2,000 test images met once, its further evaluations),
3 seeds, the training views AugMix's operations, none of which is a test corruption. Two groups of arms:

  one AugMix view beside the clean one, every term on both: `erm_view`, cross-entropy; `kd_view` adds KD with
  clean targets; `craft_view` is CRAFT+
  AugMix as published, cross-entropy of the clean view and a Jensen-Shannon divergence over two such views:
  `augmix`; `augmix_kd` adds KD with clean targets on all three

The groups differ in views and compute too, so the questions are answered within each. The report takes
differences from `kd_view`. Nothing is tested: three seeds give intervals.

    python -m craft_jax.study configs/studies/views.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA
"""

from configs.studies import primary
from configs.studies.chosen import CRAFT, KD
from craft_jax.study import Arm, Study

VIEWS = {"views.kind": "augmix", **primary.TEST}
# CRAFT+ but for the base, which is KD with clean targets, and the cross-entropy, which is AugMix's.
AUGMIX_KD = {"variant.base": "kd", "variant.consistency": 12.0, "views.count": 2, "views.ce_views": "clean"}


def get_study(preset=""):
    presets = ",".join(["cifar10_16", *filter(None, [preset])])
    arms = {
        "erm_view": Arm(f"configs/erm.py:{presets},matched", VIEWS),
        "kd_view": Arm(f"configs/kd.py:{presets},matched", {**VIEWS, **KD, **primary.CLEAN}),
        "craft_view": Arm(f"configs/craft_plus.py:{presets}", {**VIEWS, **CRAFT}),
        "augmix": Arm(f"configs/augmix.py:{presets}", primary.TEST),
        "augmix_kd": Arm(f"configs/studies/_craft_variants.py:{presets}", {**VIEWS, **KD, **AUGMIX_KD}),
    }
    return Study(arms, seeds=(0, 1, 2), baseline="kd_view", evaluations=primary.FURTHER)
