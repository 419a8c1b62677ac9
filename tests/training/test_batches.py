"""Batches as a pure function of (seed, step): permutations, resumes, and both places images may lie."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from craft_jax import streams
from craft_jax.mesh import make_mesh, split_over
from craft_jax.training import batches

N, BATCH = 23, 5
WHOLE = 4  # batches in an epoch; 3 images are left over


def make_dataset(size=N):
    """Images and labels that say which row they are."""
    rows = np.arange(size)
    images = (rows[:, None, None, None] * 10 + np.arange(12).reshape(2, 2, 3)) % 251
    return SimpleNamespace(
        train_images=images.astype(np.uint8), train_labels=((rows * 7 + 3) % 11).astype(np.int32)
    )


def make(seed=0, size=N, batch_size=BATCH, resident=True):
    limit = {"resident_bytes": 2**30 if resident else 0}
    found = batches.Batches(make_dataset(size), batch_size, seed, make_mesh(), **limit)
    assert found.resident is resident
    return found


def indices(source, steps):
    return np.array([source(step)["index"] for step in steps])


@pytest.fixture(scope="module")
def three_epochs():
    return indices(make(), range(3 * WHOLE))


def test_an_epoch_is_a_permutation_less_the_partial_batch(three_epochs):
    assert make().steps_per_epoch == WHOLE
    for epoch in three_epochs.reshape(3, WHOLE * BATCH):
        assert len(set(epoch)) == WHOLE * BATCH, "an image comes once an epoch"
        assert set(epoch) <= set(range(N))


def test_whole_epochs_see_every_image():
    for size in (20, 5):
        source = make(size=size)
        assert source.steps_per_epoch == size // BATCH
        assert sorted(indices(source, range(size // BATCH)).ravel()) == list(range(size))


def test_epochs_differ(three_epochs):
    a, b, c = three_epochs.reshape(3, WHOLE * BATCH)
    for x, y in ((a, b), (b, c), (a, c)):
        assert (x == y).mean() < 0.3
    left_out = [set(range(N)) - set(epoch) for epoch in (a, b, c)]
    assert set() == set.intersection(*left_out), "another part is left out each time"


def test_seeds_differ(three_epochs):
    other = indices(make(seed=1), range(WHOLE))
    assert (other.ravel() == three_epochs[:WHOLE].ravel()).mean() < 0.3
    np.testing.assert_array_equal(indices(make(seed=0), range(WHOLE)), three_epochs[:WHOLE])


def test_a_resume_sees_the_same_batches(three_epochs):
    """Any step of a fresh object, in any order, is the one of the sequence."""
    source = make()
    for step in (9, 0, 11, 4, 3, 4):
        np.testing.assert_array_equal(source(step)["index"], three_epochs[step])
    for step in (5, 8):
        np.testing.assert_array_equal(make()(step)["index"], three_epochs[step])


def test_the_order_is_the_streams_permutation(three_epochs):
    for epoch in range(3):
        key = streams.stream(0, epoch, streams.DATA_ORDER)
        order = np.asarray(jax.random.permutation(key, N))
        np.testing.assert_array_equal(three_epochs[epoch * WHOLE : (epoch + 1) * WHOLE].ravel(), order[:20])


@pytest.mark.parametrize("resident", [True, False])
def test_index_names_the_rows(resident, three_epochs):
    dataset, source = make_dataset(), make(resident=resident)
    for step in (0, 1, 6):
        batch = source(step)
        assert batch.keys() == {"image", "label", "index"}
        assert all(isinstance(leaf, jax.Array) for leaf in batch.values())
        assert [batch[k].dtype for k in ("image", "label", "index")] == [np.uint8, np.int32, np.int32]
        np.testing.assert_array_equal(batch["index"], three_epochs[step])
        np.testing.assert_array_equal(batch["image"], dataset.train_images[three_epochs[step]])
        np.testing.assert_array_equal(batch["label"], dataset.train_labels[three_epochs[step]])


@pytest.mark.parametrize("resident", [True, False])
def test_batches_are_split_over_the_mesh(resident):
    expected = split_over(make_mesh())
    for leaf in make(resident=resident)(0).values():
        assert leaf.sharding.is_equivalent_to(expected, leaf.ndim)


def test_the_batch_size_does_not_change_the_order(three_epochs):
    """One permutation an epoch, cut into batches: the first images are the same at every batch size."""
    np.testing.assert_array_equal(make(batch_size=10)(0)["index"], three_epochs[:2].ravel())


def test_positions_are_uniform():
    """Over 200 epochs every image stands in the first batch about as often: 200 * 5 / 23 = 43 times."""
    source = make()
    counts = np.bincount(indices(source, range(0, 200 * WHOLE, WHOLE)).ravel(), minlength=N)
    expected = 200 * BATCH / N
    assert ((counts - expected) ** 2 / expected).sum() < 57.5, counts  # 22 degrees of freedom, upper 5e-5


@pytest.mark.parametrize("resident", [True, False])
def test_several_batches_are_the_single_ones_stacked(resident):
    source = make(resident=resident)
    stacked = source.several(2, 7)  # from one epoch into the next
    assert all(
        leaf.sharding.is_equivalent_to(split_over(make_mesh(), 1), leaf.ndim) for leaf in stacked.values()
    )
    for i, step in enumerate(range(2, 7)):
        for name, leaf in make(resident=resident)(step).items():
            np.testing.assert_array_equal(stacked[name][i], leaf)
