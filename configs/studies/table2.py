"""The paper's table 2: does CRAFT beat ERM, KD, attention KD and CRD on corrupted images?

Protocol: CIFAR-10 at 32x32, ResNet-56 to ResNet-20, 200 epochs (the defaults of configs/default.py), one
teacher for all, seeds paired; primary endpoint robust accuracy over CIFAR-10-C's fifteen corruptions at
five severities, last epoch; four planned comparisons, corrected together by Holm's method.

    python -m craft_jax.study configs/studies/table2.py --out=DIR --config.data.dir=DATA   # a GPU, hours
    python -m craft_jax.study configs/studies/table2.py:slices --out=DIR                   # minutes at a time
    python -m craft_jax.study configs/studies/table2.py:smoke --out=DIR                    # a rehearsal

`slices` trains each method for 15, 60 and 200 epochs, in this order, from a teacher of 60, so that a whole
table exists as early as can be; its tests are of the 15. `smoke` is the same at the smoke preset's scale,
with 1, 2 and 3 epochs.
"""

from craft_jax.study import Arm, Comparison, Study

METHODS = ("erm", "kd", "attkd", "crd", "craft")
EPOCHS = {"slices": (15, 60, 200), "smoke": (1, 2, 3)}


def get_study(preset=""):
    if not preset:
        arms, compared = {name: Arm(f"configs/{name}.py") for name in METHODS}, ""
    elif preset in EPOCHS:
        scale, teacher = ("", {"teacher.epochs": 60}) if preset == "slices" else (":smoke", {})
        arms = {
            f"{name}_{epochs}": Arm(f"configs/{name}.py{scale}", {"epochs": epochs, **teacher})
            for epochs in EPOCHS[preset]
            for name in METHODS
        }
        compared = f"_{EPOCHS[preset][0]}"
    else:
        raise ValueError(f"unknown preset {preset!r}; allowed: {', '.join(EPOCHS)}")
    others = [name for name in METHODS if name != "craft"]
    planned = [Comparison(f"craft{compared}", f"{name}{compared}", "robust") for name in others]
    return Study(arms, seeds=(0, 1, 2), baseline=f"erm{compared}", comparisons=tuple(planned))
