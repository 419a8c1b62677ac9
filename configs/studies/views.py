"""With the views that help most, AugMix's, what does distillation add to AugMix itself?

Protocol, fixed before any of its runs and before primary.py's were compared: as primary.py (CIFAR-10 at
16x16, the same teacher and weights, 8 epochs, the same 2,000 test images, met once), 3 seeds, the training
views AugMix's operations, none of which is a test corruption. `augmix` is the method as published,
cross-entropy and a Jensen-Shannon divergence over two such views; `augmix_erm` is cross-entropy on the one
view that the others have, so that AugMix's loss and its views come apart. Differences are taken from KD with
clean targets. Nothing is tested: three seeds give intervals.

    python -m craft_jax.study configs/studies/views.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA
"""

from configs.studies import chosen
from craft_jax.study import Arm, Study

TEST = {"eval.split": "test"}
VIEWS = {"views.kind": "augmix"}


def get_study(preset=""):
    presets = ",".join(["cifar10_16", *filter(None, [preset])])

    def arm(config, weights):
        return Arm(f"configs/{config}", {**TEST, **VIEWS, **weights})

    arms = {
        "augmix": Arm(f"configs/augmix.py:{presets}", TEST),
        "augmix_kd_clean": arm(f"kd.py:{presets},matched", {**chosen.KD, "views.distill_target": "clean"}),
        "augmix_craft_plus": arm(f"craft_plus.py:{presets}", chosen.CRAFT),
        "augmix_erm": arm(f"erm.py:{presets},matched", {}),
    }
    return Study(arms, seeds=(0, 1, 2), baseline="augmix_kd_clean")
