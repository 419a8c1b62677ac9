"""Does the study runner work? ERM, KD and CRAFT on the digits, one epoch each: minutes, and no finding.

python -m craft_jax.study configs/studies/smoke.py --out=DIR
python -m craft_jax.report DIR --out=OUT
"""

from craft_jax.study import Arm, Comparison, Study


def get_study(preset=""):
    presets = ",".join(["smoke", *filter(None, [preset])])
    return Study(
        arms={name: Arm(f"configs/{name}.py:{presets}") for name in ("erm", "kd", "craft")},
        seeds=(0, 1, 2),
        baseline="kd",
        comparisons=(Comparison("craft", "kd", "robust"), Comparison("craft", "erm", "robust")),
    )
