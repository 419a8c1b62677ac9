"""Does the study runner last? 200 runs of two steps on the digits, for `launch/chaos.py soak`; no finding."""

from craft_jax.study import Arm, Study


def get_study(preset=""):
    presets = ",".join(["smoke", *filter(None, [preset])])
    few = {"data.max_train": 64, "eval.max_examples": 32, "eval.batch_size": 32}
    arms = {name: Arm(f"configs/{name}.py:{presets}", few) for name in ("erm", "augmix")}
    return Study(arms, seeds=tuple(range(100)), baseline="erm")
