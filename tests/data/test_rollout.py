"""The rollout store copies what it is given; minibatches hold every row once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.data.rollout import RolloutBuffer, batchify_and_randomize
from kitae_marl.types import Experience

SHAPE = (4, 2)  # environments, agents
BEFORE = ("observation", "action", "extras", "action_mask", "active", "state", "carry", "reset")
AFTER = tuple(name for name in Experience._fields if name not in BEFORE)


UNUSED = ("action_mask", "state", "carry")


def parts(t):
    """Both halves of step ``t``; every field holds numbers of its own."""
    numbers = {name: np.full(SHAPE, 10.0 * t + i) for i, name in enumerate((*BEFORE, *AFTER))}
    before = {name: {"g": numbers[name]} for name in BEFORE if name not in UNUSED}
    before["action_mask"] = {"g": ()}
    before["observation"] = {"g": {"x": numbers["observation"], "y": (numbers["active"],)}}
    after = {name: {"g": numbers[name]} for name in AFTER}
    return Experience(**before), Experience(**after)


def fill(buffer, start=0):
    for t in range(start, start + buffer.n_steps):
        before, after = parts(t)
        buffer.begin(before)
        buffer.finish(after)


def test_stored_rows_come_back_time_first():
    buffer = RolloutBuffer(3)
    fill(buffer)
    experience = buffer.experience()
    assert isinstance(experience, Experience)
    assert experience.observation["g"]["y"][0].shape == (3, *SHAPE)
    assert experience.action_mask["g"] == ()
    assert experience.state == ()
    for name in AFTER:
        expected = [getattr(parts(t)[1], name)["g"] for t in range(3)]
        np.testing.assert_array_equal(getattr(experience, name)["g"], expected)


def test_what_is_added_is_copied():
    buffer = RolloutBuffer(1)
    before, after = parts(1)
    live = before.observation["g"]["x"]
    buffer.begin(before)
    live[:] = -1.0  # the environment steps
    buffer.finish(after)
    assert (buffer.experience().observation["g"]["x"] == 10.0).all()


def test_rewards_are_stored_in_single_precision_and_flags_as_they_come():
    buffer = RolloutBuffer(1)
    buffer.begin(Experience())
    rewards, flags = {"g": np.ones(SHAPE)}, {"g": np.ones(SHAPE, bool)}
    buffer.finish(Experience(reward=rewards, terminated=flags))
    assert buffer.experience().reward["g"].dtype == np.float32
    assert buffer.experience().terminated["g"].dtype == bool


def test_full_incomplete_and_cleared():
    buffer = RolloutBuffer(2)
    with pytest.raises(RuntimeError, match="expected 2 stored steps, got 0"):
        buffer.experience()
    fill(buffer)
    assert buffer.full
    with pytest.raises(RuntimeError, match=r"full; call clear\(\) first"):
        buffer.begin(parts(0)[0])
    memory = buffer.experience().reward["g"]
    buffer.clear()
    assert not buffer.full
    fill(buffer, start=7)
    assert buffer.experience().reward["g"] is memory  # the arrays are used again
    np.testing.assert_array_equal(memory[0], parts(7)[1].reward["g"])
    with pytest.raises(ValueError, match="at least 1"):
        RolloutBuffer(0)


def test_the_two_parts_of_a_step_come_in_order():
    buffer = RolloutBuffer(2)
    before, after = parts(0)
    with pytest.raises(RuntimeError, match="expected a step that was begun"):
        buffer.finish(after)
    buffer.begin(before)
    with pytest.raises(RuntimeError, match=r"expected finish\(...\) of the step"):
        buffer.begin(before)
    assert buffer.cursor == 0
    buffer.clear()
    buffer.begin(before)
    buffer.finish(after)
    assert buffer.cursor == 1


class TestBatches:
    def rows(self, n):
        return {"x": jnp.arange(n)}, jnp.arange(n) * 2.0, jnp.arange(2 * n).reshape(n, 2)

    @pytest.mark.parametrize("batch_size", [1, 4, 12])
    def test_every_row_once_and_fields_stay_together(self, batch_size):
        a, b, c = batchify_and_randomize(jax.random.key(1), self.rows(12), batch_size)
        assert a["x"].shape == b.shape == (12 // batch_size, batch_size)
        assert sorted(a["x"].ravel().tolist()) == list(range(12))
        np.testing.assert_array_equal(b, a["x"] * 2.0)
        np.testing.assert_array_equal(c[..., 0], a["x"] * 2)

    def test_orders_differ_by_key_and_are_uniform(self):
        shuffle = jax.jit(jax.vmap(lambda k: batchify_and_randomize(k, (jnp.arange(4),), 2)[0]))
        keys = jax.random.split(jax.random.key(0), 4800)
        orders, counts = np.unique(shuffle(keys).reshape(-1, 4), axis=0, return_counts=True)
        assert len(orders) == 24
        assert abs(counts - 200).max() < 5 * 200**0.5

    def test_many_rows_are_spread_evenly(self):
        """Every batch has a like share of early rows and of even ones, in each way of sorting."""
        for n in (2**20, 2**20 + 2):
            [batches] = batchify_and_randomize(jax.random.key(2), (jnp.arange(n),), n // 2)
            first = np.asarray(batches[0])
            assert len(np.unique(batches)) == n
            for share in ((first < n // 2).mean(), (first % 2 == 0).mean()):
                assert abs(share - 0.5) < 4 * 0.5 / (n / 2) ** 0.5

    @pytest.mark.parametrize("batch_size", [0, 5, 13])
    def test_sizes_that_do_not_divide_are_refused(self, batch_size):
        message = f"expected a batch_size that divides 12 rows, got {batch_size}"
        with pytest.raises(ValueError, match=message):
            batchify_and_randomize(jax.random.key(0), self.rows(12), batch_size)

    @pytest.mark.parametrize("rows", [(), ([],), (3.0,), (np.ones(12), np.ones(11)), (None,)])
    def test_fields_of_unequal_length_are_refused(self, rows):
        with pytest.raises(ValueError, match=r"expected arrays with one number of rows .* got the"):
            batchify_and_randomize(jax.random.key(0), rows, 3)

    @pytest.mark.parametrize("batch_size", [None, "3", 3.0, True])
    def test_a_batch_size_that_is_no_integer_is_refused(self, batch_size):
        with pytest.raises(TypeError, match="expected an integer batch_size, got"):
            batchify_and_randomize(jax.random.key(0), self.rows(12), batch_size)


def test_masks_that_come_after_the_first_step_are_taken_in() -> None:
    buffer = RolloutBuffer(3)
    one = {"a": np.ones((1, 1), np.float32)}
    late = {"a": np.array([[[0, 1]]], np.int8)}
    for mask in ({"a": ()}, late, late):
        buffer.begin(Experience(observation=one, action_mask=mask))
        buffer.finish(Experience(reward=one))
    assert buffer.experience().action_mask["a"].tolist() == [[[[1, 1]]], [[[0, 1]]], [[[0, 1]]]]
