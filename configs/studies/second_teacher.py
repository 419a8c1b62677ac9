"""Do primary.py's last two comparisons hold for another teacher, one that is robust itself?

Protocol, fixed before any of its runs and before primary.py's were compared: as primary.py (CIFAR-10 at
16x16, the same weights, 8 epochs, the same 2,000 test images, met once) but for the teacher, a ResNet-20
trained 30 epochs by AugMix, and 3 seeds, primary.py's: another teacher over the same initial students,
batches and views. What counts is whether the differences' intervals agree with primary.py's. The report also
prints p's, of three pairs and a family of two: the protocol gives them no weight, significant or not. Weights
were chosen with primary.py's teacher, none for this one.

    python -m craft_jax.study configs/studies/second_teacher.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA
"""

from configs.studies import primary
from craft_jax.study import Arm, Comparison, Study

TEACHER = {"teacher.method": "augmix"}
PAIRS = (("craft_matched", "kd_matched"), ("craft_plus", "kd_clean"))


def get_study(preset=""):
    first = primary.get_study(preset).arms
    arms = {
        f"{name}_t2": Arm(first[name].config, {**first[name].overrides, **TEACHER})
        for name in ("kd_matched", "craft_matched", "kd_clean", "craft_plus")
    }
    planned = tuple(Comparison(f"{arm}_t2", f"{other}_t2", "robust") for arm, other in PAIRS)
    return Study(arms, (0, 1, 2), "kd_clean_t2", planned, primary.FURTHER)
