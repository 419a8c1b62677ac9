"""Studies: arms times seeds, run, resumed and kept; `python -m craft_jax.study --help`.

A study is a Python file with `get_study(preset="")`, which returns a Study:

    from craft_jax.study import Arm, Comparison, Study

    def get_study(preset=""):
        return Study(
            arms={"kd": Arm("configs/kd.py:digits"), "craft": Arm("configs/craft.py:digits")},
            seeds=(0, 1, 2),
            baseline="kd",
            comparisons=(Comparison("craft", "kd", "robust"),),
        )
"""

from craft_jax.study.definition import Arm, Comparison, Study, grid

__all__ = ["Arm", "Comparison", "Study", "grid"]
