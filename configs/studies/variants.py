"""Can CRAFT be made to gain more? Variants on held-out images, and as many of KD with clean targets.

Protocol, fixed before any of its runs and before primary.py's were compared: CIFAR-10 at 16x16 as there, 2
seeds, the first 2,000 of the held-out images under the two corruptions that tuning.py names for choosing (the
fifteen, C-bar's other eight and the test set choose nothing). Seven trials of CRAFT+, seven of KD with clean
targets. The best of each side by mean robust accuracy, the bases among them, goes to fresh seeds under the
fifteen in a comparison of its own, by a file that names it before it runs. That file also has the variant
with its contrastive and de-alignment terms at zero and r at its mean: CRAFT counts only what it gains over
that; a better KD is a better KD.

The entropy divided by log K, another of the ideas, is reliability.beta divided by log 10 for ten classes and
no variant. `_craft_variants.py` has what is no key of CRAFT.

    python -m craft_jax.study configs/studies/variants.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA
"""

from configs.studies import chosen, primary
from craft_jax.study import Arm, Study

VARIANTS = "configs/studies/_craft_variants.py"
CHOOSING = {"eval.corruptions": primary.CHOOSING}


def get_study(preset=""):
    presets = ",".join(["cifar10_16", *filter(None, [preset])])

    def craft(**changes):
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        file = VARIANTS if any(key.startswith("variant.") for key in overrides) else "configs/craft_plus.py"
        return Arm(f"{file}:{presets}", {**CHOOSING, **chosen.CRAFT, **overrides})

    def kd(file="kd", **changes):
        weight = chosen.KD if file == "kd" else {}
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        return Arm(
            f"configs/{file}.py:{presets},matched", {**CHOOSING, **weight, **primary.CLEAN, **overrides}
        )

    def kd_consistency(weight):
        own = {"variant.base": "kd", "variant.consistency": weight}
        return Arm(f"{VARIANTS}:{presets}", {**CHOOSING, **chosen.KD, **own})

    arms = {
        "craft_plus": craft(),
        "kd_clean": kd(),
        "craft_consistency1": craft(variant__consistency=1.0),
        "craft_consistency12": craft(variant__consistency=12.0),
        "craft_confidence": craft(variant__confidence=True),
        "craft_class": craft(variant__class_positives=True),
        "craft_shift10": craft(dealign__form="shift", dealign__weight=10.0),
        "craft_rank8": craft(variant__rank=8),
        "craft_rank8_10": craft(variant__rank=8, dealign__weight=10.0),
        "kd_consistency1": kd_consistency(1.0),
        "kd_consistency12": kd_consistency(12.0),
        "kd_temperature2": kd(kd__temperature=2.0),
        "kd_temperature8": kd(kd__temperature=8.0),
        "kd_standardized": kd(kd__standardize=True, kd__weight=9.0, kd__temperature=2.0),
        "dkd_clean": kd("dkd"),
        "dist_clean": kd("dist"),
    }
    return Study(arms, seeds=(0, 1), baseline="kd_clean")
