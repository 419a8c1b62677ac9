"""One pair at 32x32: the difference between CRAFT+ and KD with clean targets there.

Protocol, fixed before primary.py's runs were compared: CIFAR-10 at its own size, preset cifar10_cpu
(ResNet-20, 10 epochs, to ResNet-8, 10 epochs, one corrupted view, all 50,000 training images), the weights
that were chosen at 16x16, seed 0, the first 2,000 test images under the fifteen corruptions. One pair has an
interval over test images and none over seeds: it neither supports nor contradicts primary.py's answer, and
shows what one pair is like at that size.

    python -m craft_jax.study configs/studies/confirm.py --out=DIR --results=results/cifar10_32 \\
      --config.data.dir=DATA
"""

from configs.studies import chosen
from craft_jax.study import Arm, Study


def get_study(preset=""):
    presets = ",".join(["cifar10_cpu", *filter(None, [preset])])
    clean = {**chosen.KD, "views.distill_target": "clean"}
    arms = {
        "kd_clean": Arm(f"configs/kd.py:{presets},matched", clean),
        "craft_plus": Arm(f"configs/craft_plus.py:{presets}", chosen.CRAFT),
    }
    return Study(arms, seeds=(0,), baseline="kd_clean")
