import pickle

import numpy as np
import pytest

from av_grounding.training.data.order import EndlessOrder


def test_an_epoch_has_every_clip_once_and_the_next_has_another_order():
    order = EndlessOrder([5, 3, 4], 3, seed=1)
    epochs = [np.concatenate([order[4 * e + i] for i in range(4)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert epochs[0].tolist() != epochs[1].tolist() != epochs[2].tolist()


def test_a_batch_depends_on_seed_and_number_alone():
    order = EndlessOrder([40, 30], 4, seed=1)
    far = order[1000]
    again = pickle.loads(pickle.dumps(EndlessOrder([40, 30], 4, seed=1)))
    assert np.array_equal(again[1000], far)
    assert not np.array_equal(EndlessOrder([40, 30], 4, seed=2)[1000], far)
    assert all(len(set(order[number].tolist())) == 4 for number in range(200))


def test_what_whole_batches_leave_out_changes():
    order = EndlessOrder([7], 4, seed=0)
    assert order.batches_per_epoch == 1
    assert set(np.concatenate([order[number] for number in range(40)])) == set(range(7))


def test_few_shards_are_open_at_a_time():
    sizes = [10] * 20
    order = EndlessOrder(sizes, 10, seed=0, shards_at_once=2)
    shards = [set(order[number] // 10) for number in range(order.batches_per_epoch)]
    assert all(len(used) <= 4 for used in shards)
    assert any(len(used) > 1 for used in shards)
    assert EndlessOrder(sizes, 10, seed=0, shards_at_once=20)[0].max() > 20


def test_too_few_clips_for_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"3 clips for batches of 4: add clips or lower data\."):
        EndlessOrder([1, 2], 4, seed=0)
