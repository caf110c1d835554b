"""One epoch: every key once, and the same result as a loop over the minibatches."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.data.rollout import batchify_and_randomize
from kitae_marl.loops.update import NONFINITE, skip_nonfinite, update_epoch


class Rows(NamedTuple):
    x: Any
    y: Any


EXPERIENCE = Rows({"g": jnp.arange(12.0)}, jnp.arange(24.0).reshape(12, 2))


def bits(key):
    return jax.random.key_data(key)


def in_order(key, experience, batch_size):
    """Cut without shuffling."""
    del key
    return jax.tree.map(lambda x: x.reshape(-1, batch_size, *x.shape[1:]), tuple(experience))


def descend(state, key, batch):
    """A step that depends on the order of the batches, on their rows and on the key."""
    noise = jax.random.normal(key)
    loss = jnp.mean(batch.x["g"] * batch.y[:, 1]) + noise
    return 0.9 * state + loss, {"loss": loss, "state": state}


def run(batchify=batchify_and_randomize, update=descend, batch_size=3, key=0, state=1.0):
    return update_epoch(
        jax.random.key(key),
        jnp.asarray(state),
        EXPERIENCE,
        batchify,
        update,
        experience_type=Rows,
        batch_size=batch_size,
    )


def test_signature():
    parameters = inspect.signature(update_epoch).parameters
    assert list(parameters) == [
        "key",
        "state",
        "experience",
        "batchify_fn",
        "update_batch_fn",
        "experience_type",
        "batch_size",
    ]
    keyword_only = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keyword_only == ["experience_type", "batch_size"]
    assert all(p.default is p.empty for p in parameters.values())


def test_equals_a_loop_over_the_batches():
    seen = []

    def spy(key, experience, batch_size):
        batches = batchify_and_randomize(key, experience, batch_size)
        seen.append((key, batches))
        return batches

    keys = []

    def update(state, key, batch):
        jax.debug.callback(lambda data: keys.append(data), bits(key), ordered=True)
        return descend(state, key, batch)

    state, info = run(spy, update)
    jax.effects_barrier()
    ((shuffle_key, batches),) = seen
    expected, infos = jnp.asarray(1.0), []
    for i, data in enumerate(keys):
        batch = Rows(*jax.tree.map(lambda x, i=i: x[i], batches))
        expected, one = descend(expected, jax.random.wrap_key_data(data), batch)
        infos.append(one)
    assert len(infos) == 4
    np.testing.assert_allclose(state, expected, rtol=1e-6)
    for name in ("loss", "state"):
        np.testing.assert_allclose(info[name], np.mean([x[name] for x in infos]), rtol=1e-6)
    used = [bits(shuffle_key), *keys, bits(jax.random.key(0))]
    assert len(np.unique(np.stack(used), axis=0)) == len(used)  # no key is used twice


def test_keys_of_two_epochs_differ():
    def collect(state, key, batch):
        return state, {"key": bits(key).astype(jnp.float32)}

    first, second = (run(update=collect, key=key)[1]["key"] for key in (0, 1))
    assert (first != second).any()


def test_jitted_and_plain_are_equal():
    plain = run()
    jitted = jax.jit(lambda: run())()
    np.testing.assert_allclose(plain[0], jitted[0], rtol=1e-6)


def test_the_batch_has_the_type_asked_for():
    def update(state, key, batch):
        assert type(batch) is Rows
        assert batch.y.shape == (12, 2)
        return state + batch.x["g"][0], {}

    state, info = run(in_order, update, batch_size=12)
    assert float(state) == 1.0
    assert info == {}


@pytest.mark.parametrize("batch_size", [3, 12])
def test_batches_come_in_the_order_of_batchify(batch_size):
    def update(state, key, batch):
        return state * 10 + batch.x["g"][0], {}

    state, _ = run(in_order, update, batch_size=batch_size, state=0.0)
    assert float(state) == {3: 369.0, 12: 0.0}[batch_size]


def empty(key, experience, batch_size):
    return tuple(jax.tree.map(lambda x: x[:0], experience))


def unequal(key, experience, batch_size):
    x, y = in_order(key, experience, batch_size)
    return x, y[1:]


@pytest.mark.parametrize(
    "batchify",
    [empty, unequal, lambda *_: (), lambda *_: (1.0, 2.0), lambda *_: (jnp.ones(4), jnp.ones(4))],
)
def test_no_batch_or_unequal_numbers_are_refused(batchify):
    with pytest.raises(ValueError, match=r"expected batchify_fn .* got .*\[.*batch_size=3"):
        run(batchify)


@pytest.mark.parametrize("batches", [None, 3.0, {"x": jnp.ones((4, 3))}])
def test_batches_that_are_no_tuple_are_refused(batches):
    with pytest.raises(
        TypeError, match=r"expected batchify_fn to return a tuple .* got (No|fl|di)"
    ):
        run(lambda *_: batches)


@pytest.mark.parametrize("result", [None, 1.0, (1.0,), (1.0, None), (1.0, {}, {})])
def test_an_update_that_returns_something_else_is_refused(result):
    with pytest.raises(TypeError, match=r"expected update_batch_fn to return \(state, info\)"):
        run(update=lambda *_: result)


@pytest.mark.parametrize("name", ["batchify_fn", "update_batch_fn", "experience_type"])
def test_what_is_no_function_is_refused(name):
    arguments = {
        "batchify_fn": in_order,
        "update_batch_fn": descend,
        "experience_type": Rows,
        name: None,
    }
    with pytest.raises(TypeError, match=f"expected a function as {name}, got None"):
        update_epoch(jax.random.key(0), jnp.zeros(()), EXPERIENCE, batch_size=3, **arguments)


def test_a_batch_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divides 12 rows, got 5"):
        run(batch_size=5)


class TestSkipping:
    @staticmethod
    def learn(state, key, processed):
        del key
        w, count = state
        return (w - processed, count + 1), {"loss": jnp.sum(processed)}

    @pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
    def test_an_update_that_is_not_finite_leaves_everything_as_it_was(self, bad):
        guarded = jax.jit(skip_nonfinite(self.learn))
        state = (jnp.arange(3.0), jnp.int32(7))
        kept, info = guarded(state, None, jnp.array([0.0, bad, 1.0]))
        assert np.array_equal(kept[0], state[0])
        assert kept[1] == 7
        assert info[NONFINITE] == 1.0
        assert not jnp.isfinite(info["loss"])

    def test_a_finite_update_is_the_update_itself(self):
        state, step = (jnp.arange(3.0), jnp.int32(7)), jnp.ones(3)
        learned, info = jax.jit(skip_nonfinite(self.learn))(state, None, step)
        plain, plain_info = self.learn(state, None, step)
        assert np.array_equal(learned[0], plain[0])
        assert learned[1] == plain[1] == 8
        assert info == {**plain_info, NONFINITE: 0.0}


def test_infos_may_be_nested() -> None:
    """By agent, say; their parts are averaged one by one, over the minibatches ``0..3, 4..7``."""

    class Only(NamedTuple):
        x: Any

    def learn(state: Any, key: Any, batch: Any) -> Any:
        return state, {"a": {"loss": batch.x.mean(), "n": batch.x.size}, "b": batch.x.min()}

    def in_order(key: Any, rows: Any, size: int) -> Any:
        return [rows.x.reshape(-1, size)]

    rows = Only(jnp.arange(8.0))
    _, info = update_epoch(
        jax.random.key(0), 0.0, rows, in_order, learn, experience_type=Only, batch_size=4
    )
    assert jax.tree.map(float, info) == {"a": {"loss": 3.5, "n": 4.0}, "b": 2.0}
