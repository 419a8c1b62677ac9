"""What of CRAFT+ does what? Each part taken away or replaced, on held-out images: to explain, not to choose.

Protocol, fixed before any run: as primary.py (CIFAR-10 at 16x16, one teacher, 8 epochs), 2 seeds, the first
2,000 of the 5,000 held-out images under the fifteen corruptions: the test set is not met, and nothing is
tested. In the order of interest; cut from the end where hours run out.

    python -m craft_jax.study configs/studies/ablation.py --out=DIR --results=results/cifar10_16 \\
      --config.data.dir=DATA

`kd_r` is KD weighted by r alone. `kd_forwarded` is KD on the clean view while the student also forwards the
corrupted one, which so enters its BatchNorm statistics and, but for one part in a billion, no loss: CRAFT
at r = 1/2, KD's weight doubled. `kd_longer` is KD for twice the epochs, about what CRAFT's second view
costs.
"""

from configs.studies import chosen
from craft_jax.study import Arm, Study

EVEN = {"reliability.alpha": 0.0, "reliability.beta": 0.0}  # r is 1/2
KD_ALONE = {"contrastive.weight": 0.0, "dealign.weight": 0.0}


def get_study(preset=""):
    presets = ",".join(["cifar10_16", *filter(None, [preset])])

    def plus(**changes):
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        return Arm(f"configs/craft_plus.py:{presets}", {**chosen.CRAFT, **overrides})

    forwarded = {
        **EVEN,
        "kd.weight": 2 * chosen.KD["kd.weight"],
        "contrastive.weight": 1e-9,
        "dealign.weight": 0.0,
    }
    clean = {**chosen.KD, "views.distill_target": "clean"}
    arms = {
        "craft_plus": plus(),
        "kd_clean": Arm(f"configs/kd.py:{presets},matched", clean),
        "no_contrastive": plus(contrastive__weight=0.0),
        "no_dealign": plus(dealign__weight=0.0),
        "r_mean": plus(reliability__source="mean"),
        "r_oracle": plus(reliability__source="oracle"),
        "r_shuffled": plus(reliability__source="shuffled"),
        "cross_view": plus(contrastive__positives="cross_view"),
        "own_anchor": plus(contrastive__anchor="own"),
        "no_mask": plus(contrastive__mask_same_class=False),
        "kd_r": Arm(f"configs/craft_plus.py:{presets}", {**chosen.KD, **KD_ALONE}),
        "kd_forwarded": Arm(f"configs/craft.py:{presets}", forwarded),
        "kd_longer": Arm(f"configs/kd.py:{presets}", {**chosen.KD, "epochs": 16}),
    }
    return Study(arms, seeds=(0, 1), baseline="craft_plus")
