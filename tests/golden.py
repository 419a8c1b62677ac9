"""What every figure rests on, computed anew: the random draws, the images they make, a step's losses.

`python -m tests.golden` writes tests/golden.npz and prints the name of the draws for `streams.DRAWS`. Do that
only where a change is meant: results of before and after are then not of one study.
"""

import functools
import hashlib
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from craft_jax import corruptions, methods, models, streams, views
from craft_jax.corruptions import draws
from craft_jax.evaluation.images import corruption_keys
from craft_jax.mesh import make_mesh
from craft_jax.methods import crd
from craft_jax.training import step
from craft_jax.training.batches import Batches
from craft_jax.views.corrupted import deal, hands
from tests.conftest import CONFIGS, TINY, small_config, small_digits

FILE = Path(__file__).with_name("golden.npz")
NAMES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # the training corruptions


def name_of_draws():
    """Twelve hex digits over what is random, all of it whole numbers, the same on every processor."""
    digest = hashlib.sha256()
    for array in _draws():
        digest.update(np.ascontiguousarray(array).astype("<i8").tobytes())
    return digest.hexdigest()[:12]


def _draws():
    index = np.arange(3)
    for name, severity in itertools.product(corruptions.NAMES, corruptions.SEVERITIES):
        keys = corruption_keys(name, severity, index)
        yield jax.random.key_data(keys)
        yield jax.vmap(lambda key: draws.bits(key, (64,)))(keys)
    key = functools.partial(streams.stream, 3, 5)
    for number in range(6):
        yield jax.random.key_data(key(number))
    shape, table = (8, 4, 4, 3), hands(NAMES, corruptions.SEVERITIES, (32, 32, 3), 16)
    yield views.crop_and_flip(key(streams.CROPS), jnp.arange(384).astype(jnp.uint8).reshape(shape), 2, True)
    dealt = jax.vmap(functools.partial(deal, table))(jax.random.split(key(streams.CORRUPTIONS), 4))
    yield from (dealt.image, dealt.severity, dealt.slot, jax.random.key_data(dealt.key))
    labels = jnp.arange(60) % 7
    yield crd.draw_negatives(key(streams.METHOD), labels, labels[:8], 7, 20)
    dataset = small_digits()
    yield Batches(dataset, 16, 3, make_mesh())(5)["index"]


def photographs():
    """(2, 32, 32, 3) float32 in [0, 1]: two crops of scikit-learn's photographs."""
    from tests.corruptions.test_helpers import photographs

    return np.float32(photographs()[:2]) / np.float32(255)


def evaluated(severities=corruptions.SEVERITIES):
    """{"NAME SEVERITY": (2, 32, 32, 3) uint8}: the first two images of an evaluation of photographs."""
    images, index = photographs(), np.arange(2)
    return {
        f"{name} {severity}": levels(
            corruptions.corrupt(corruption_keys(name, severity, index), images, name, severity)
        )
        for name, severity in itertools.product(corruptions.NAMES, severities)
    }


def levels(images):
    """Floats in [0, 1] as bytes."""
    return np.rint(np.asarray(images) * 255).astype(np.uint8)


def stepped(method):
    """(views as bytes, {name of a loss: its value}) of the first step of a method on the tiny network."""
    models.REGISTRY["tiny"] = TINY
    config = small_config(method, **{"views.corruptions": ("speckle_noise", "gaussian_blur", "spatter")})
    dataset = small_digits()
    run = step.make_run(config, dataset, None, 12)
    teacher = ()
    if methods.needs_teacher(config):
        run = run._replace(teacher=run.student)
        teacher = run.student.init(jax.random.key(7), (1, 16, 16, 3))
    state = step.init_state(run, (16, 16, 3), dataset.train_labels)
    batch = Batches(dataset, config.batch_size, config.seed, run.mesh)(0)
    state = step.begin(run, state, teacher, batch)
    _, metrics = step.jit_step(run)(state, teacher, batch)
    keys = (streams.stream(config.seed, 0, name) for name in (streams.CROPS, streams.CORRUPTIONS))
    seen = views.make(*keys, batch["image"], max(run.method.views(config)), config, run.mesh)
    return levels(seen), {k: np.float32(v) for k, v in metrics.items() if k.startswith("loss/")}


def main():
    """Write the file, and print the name."""
    kept = {f"evaluated/{key}": image for key, image in evaluated().items()}
    for method in CONFIGS:
        seen, losses = stepped(method)
        kept[f"views/{method}"] = seen
        kept |= {f"{method}/{name}": value for name, value in losses.items()}
    np.savez_compressed(FILE, **kept)
    print(f'streams.DRAWS = "{name_of_draws()}"')


if __name__ == "__main__":
    main()
