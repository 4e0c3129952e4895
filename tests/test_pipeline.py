"""Batches are functions of their number; evaluation covers each example once."""

import itertools

import numpy as np
import pytest

from jaxvision import pipeline
from jaxvision.interfaces import Split

SPLIT = Split.of(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10, dtype=np.int32))


def take(count, **options):
    batches = pipeline.train_batches(SPLIT, 4, **{"seed": 3, **options})
    taken = [batch["targets"] for batch in itertools.islice(batches, count)]
    batches.close()
    return taken


def test_each_epoch_holds_each_example_once_and_batches_are_full():
    stream = np.concatenate(take(10))
    assert stream.shape == (40,)
    for epoch in stream.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:20])


def test_starting_later_gives_the_same_batches():
    for start in (1, 4, 7):
        np.testing.assert_array_equal(take(10)[start:], take(10 - start, start=start))


def test_batches_say_which_examples_they_hold_and_in_which_epoch():
    def rows(count, **options):
        batches = pipeline.train_batches(SPLIT, 4, seed=3, **options)
        taken = list(itertools.islice(batches, count))
        batches.close()
        return {name: [batch[name] for batch in taken] for name in ("index", "epoch", "targets")}

    whole = rows(10)
    assert all(array.dtype == np.int32 for name in ("index", "epoch") for array in whole[name])
    np.testing.assert_array_equal(whole["index"], whole["targets"])  # in this split an example's target is its index
    np.testing.assert_array_equal(np.concatenate(whole["epoch"]), np.repeat(range(4), 10))
    later, half = rows(4, start=6), rows(10, rows=slice(2, 4))
    for name in ("index", "epoch"):
        np.testing.assert_array_equal(later[name], whole[name][6:])
        np.testing.assert_array_equal(half[name], np.array(whole[name])[:, 2:4])


def test_the_seed_decides():
    np.testing.assert_array_equal(take(5), take(5))
    assert not np.array_equal(take(5), take(5, seed=4))


def test_inputs_belong_to_targets():
    batch = next(pipeline.train_batches(SPLIT, 4, seed=0))
    np.testing.assert_array_equal(batch["inputs"].ravel(), batch["targets"])
    assert batch["mask"].tolist() == [1, 1, 1, 1]


def test_a_batch_of_many_epochs_is_possible_for_the_order():
    indices = pipeline.Order(3, seed=0).indices(0, 9)
    assert all(sorted(part) == [0, 1, 2] for part in indices.reshape(3, 3))


def test_batches_larger_than_the_split_are_refused():
    with pytest.raises(ValueError, match="a step of 11 examples is larger than the training split of 10"):
        pipeline.check_batch_size(11, SPLIT)
    pipeline.check_batch_size(10, SPLIT)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 16])
def test_evaluation_covers_each_example_once_in_order(batch_size):
    batches = list(pipeline.eval_batches(SPLIT, batch_size))
    assert all(len(batch["targets"]) == batch_size for batch in batches)
    seen = np.concatenate([batch["targets"][batch["mask"] > 0] for batch in batches])
    np.testing.assert_array_equal(seen, np.arange(10))


def test_a_failing_reader_raises_in_the_loop():
    def read(indices):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(pipeline.train_batches(Split(read, SPLIT.targets), 4, seed=0))
