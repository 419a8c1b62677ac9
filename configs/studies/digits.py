"""Every method on scikit-learn's digits, five seeds: untuned, published weights, no ranking.

It shows that each method trains. The published weights were chosen for CIFAR-100 and 240 epochs; here are 6
epochs of 1,400 images, another weight may turn any order, and nothing is tested.

    python -m craft_jax.study configs/studies/digits.py --out=DIR
    python -m craft_jax.study configs/studies/digits.py:smoke --out=DIR    # one epoch each, a rehearsal
"""

from craft_jax.study import Arm, Study

ALONE = ("erm", "augmix", "kd", "attkd", "fitnets", "sp", "rkd", "pkt", "nst", "vid", "crd", "dkd", "dist")
# Logit standardisation has the weight and the temperature of its code.
STANDARDIZED = {"kd.standardize": True, "kd.weight": 9.0, "kd.temperature": 2.0}


def get_study(preset=""):
    scale = preset or "digits"
    arms = {name: Arm(f"configs/{name}.py:{scale}") for name in (*ALONE, "craft")}
    arms["kd_standardized"] = Arm(f"configs/kd.py:{scale}", STANDARDIZED)
    for name in ("attkd", "crd"):
        arms[f"kd_{name}"] = Arm(f"configs/combined.py:{scale}", {"combined.methods": ("kd", name)})
    for name in ("kd", "craft"):
        arms[f"{name}_matched"] = Arm(f"configs/{name}.py:{scale},matched")
    return Study(arms, seeds=(0, 1, 2, 3, 4), baseline="erm")
