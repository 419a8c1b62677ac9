"""The teacher: ERM on the teacher's architecture, seed and recipe (the keys teacher.*).

    python -m craft_jax.main --config=configs/teacher.py[:preset] --workdir=DIR
    python -m craft_jax.main --config=configs/craft.py[:preset] --config.teacher.checkpoint=DIR

The second command without teacher.checkpoint trains this very teacher by itself, once. This is a plain ERM
run, so another teacher is --config.student.name=resnet110 --config.epochs=300 here, and its DIR there.
"""

from configs import default
from craft_jax.config.tree import teacher_config


def get_config(preset=""):
    return teacher_config(default.get_config(preset))
