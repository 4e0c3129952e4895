"""Batches are functions of their number; evaluation covers each example once."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from jaxvision.engine import pipeline
from jaxvision.folds import concatenate
from jaxvision.interfaces import Split

SPLIT = Split.of(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10, dtype=np.int32), kind="multiclass")


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
    indices = pipeline.Sampler(3, seed=0).indices(0, 9)
    assert all(sorted(part) == [0, 1, 2] for part in indices.reshape(3, 3))


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
        next(pipeline.train_batches(Split(read, SPLIT.targets, kind="multiclass"), 4, seed=0))


def streamed(num_examples=10):
    """A split whose examples show their index and what their generator draws; some take longer than others."""

    def decode(index, rng):
        time.sleep(0.002 * (index % 3))
        return np.array([[[index, 0 if rng is None else rng.integers(256)]]], np.uint8)

    def read(chosen):
        return np.stack([decode(int(index), None) for index in chosen])

    return Split(read, np.arange(num_examples, dtype=np.int32), kind="multiclass", decode=decode)


def stream(count, *, split=None, batch_size=4, **options):
    batches = pipeline.train_batches(split or streamed(), batch_size, **{"seed": 3, **options})
    taken = list(itertools.islice(batches, count))
    batches.close()
    return {name: np.stack([batch[name] for batch in taken]) for name in taken[0]}


def test_decoding_gives_the_batches_of_reading_by_any_number_of_threads():
    one, read = stream(10, num_threads=1), stream(10, split=SPLIT)
    for num_threads in (2, 7, None):
        many = stream(10, num_threads=num_threads)
        for name, array in one.items():
            assert many[name].dtype == array.dtype
            np.testing.assert_array_equal(many[name], array)
    for name in ("targets", "index", "epoch", "mask"):
        assert one[name].dtype == read[name].dtype
        np.testing.assert_array_equal(one[name], read[name])
    np.testing.assert_array_equal(one["inputs"][..., 0, 0, 0], one["targets"])


def test_each_example_has_a_generator_of_its_seed_epoch_and_place():
    found = stream(10)
    for place, value in enumerate(found["inputs"][..., 1].ravel()):
        assert value == np.random.default_rng((3, *divmod(place, 10))).integers(256)
    assert len({*found["inputs"][found["index"] == 0][..., 1].ravel().tolist()}) == 4  # one for each epoch


def test_a_stream_starts_at_any_batch_without_reading_what_came_before():
    whole, read = stream(10), []
    split = streamed()
    decode = split.decode
    split = replace(split, decode=lambda index, rng: (read.append(index), decode(index, rng))[1])
    later = stream(2, split=split, start=7)
    for name, array in later.items():
        np.testing.assert_array_equal(array, whole[name][7:9])
    assert read[0] in later["index"] and len(read) <= 4 * 6  # two batches, and what is read ahead


def test_rows_of_hosts_are_together_the_batch():
    whole = stream(5, split=streamed(40), batch_size=20)
    hosts = [stream(5, split=streamed(40), batch_size=20, rows=slice(*rows)) for rows in ((0, 9), (9, 20))]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([host[name] for host in hosts], axis=1), array)


def test_a_balanced_stream_is_the_balanced_order():
    unequal = replace(streamed(), targets=np.array([0] * 8 + [1] * 2, np.int32))
    found = stream(5, split=unequal, balanced=True)
    np.testing.assert_array_equal(np.bincount(found["targets"].ravel()), [10, 10])
    repeated = found["inputs"][(found["index"] == 9) & (found["epoch"] == 0)][..., 1].ravel()
    assert 2 <= len(repeated) == len({*repeated.tolist()})  # each time another part


def test_a_failing_decoder_raises_in_the_loop():
    def decode(index, rng):
        raise ValueError("cannot read the image")

    batches = pipeline.train_batches(replace(SPLIT, decode=decode), 4, seed=0)
    with pytest.raises(ValueError, match="cannot read the image"):
        next(batches)


def test_parts_and_unions_of_streamed_splits_decode_their_own():
    part = streamed().select(np.array([7, 2, 5]))
    both = concatenate(part, Split.of(np.full((2, 1, 1, 2), 9, np.uint8), np.zeros(2, np.int32), kind="multiclass"))
    assert [int(part.decode(place, None).ravel()[0]) for place in range(3)] == [7, 2, 5]
    assert [int(both.decode(place, None).ravel()[0]) for place in range(5)] == [7, 2, 5, 9, 9]
    assert SPLIT.select(np.arange(2)).decode is None and concatenate(SPLIT, SPLIT).decode is None
    random = replace(streamed(), is_random=True)
    assert random.select(np.arange(2)).is_random and concatenate(SPLIT, random).is_random and not both.is_random
