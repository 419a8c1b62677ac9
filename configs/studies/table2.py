"""The paper's table 2: does CRAFT beat ERM, KD, attention KD and CRD on corrupted images?

Protocol: CIFAR-10 at 32x32, ResNet-56 to ResNet-20, 200 epochs (the defaults of configs/default.py), one
teacher for all, seeds paired; primary endpoint robust accuracy over CIFAR-10-C's fifteen corruptions at
five severities, last epoch; four planned comparisons, corrected together by Holm's method.

    python -m craft_jax.study configs/studies/table2.py --out=DIR --config.data.dir=DATA   # a GPU, hours
    python -m craft_jax.study configs/studies/table2.py:15 --out=DIR ...                   # first, this with
    python -m craft_jax.study configs/studies/table2.py:60 --out=DIR ...                   # 15 epochs, and 60
    python -m craft_jax.study configs/studies/table2.py:smoke --out=DIR                    # a rehearsal

So that a whole table exists early, `launch/gpu_study.sh` runs 15 epochs, then 60, both from a teacher of 60,
then the protocol's 200. `smoke` is the smoke preset's scale.
"""

from craft_jax.study import Arm, Comparison, Study

METHODS = ("erm", "kd", "attkd", "crd", "craft")
PRESETS = {
    "": ("", {}),
    "15": ("", {"epochs": 15, "teacher.epochs": 60}),
    "60": ("", {"epochs": 60, "teacher.epochs": 60}),
    "smoke": (":smoke", {}),
}


def get_study(preset=""):
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; allowed: {', '.join(filter(None, PRESETS))}")
    scale, overrides = PRESETS[preset]
    arms = {name: Arm(f"configs/{name}.py{scale}", overrides) for name in METHODS}
    planned = [Comparison("craft", name, "robust") for name in METHODS if name != "craft"]
    return Study(arms, seeds=(0, 1, 2), baseline="erm", comparisons=tuple(planned))
