"""Keys by purpose and step are all different and depend on nothing else."""

import itertools

import jax
import numpy as np

from kitae_marl.data import keys

PURPOSES = [keys.EXPLORE, keys.UPDATE, keys.INIT, keys.EVALUATE, keys.ENVIRONMENT]


def test_purposes_are_distinct():
    assert len(set(PURPOSES)) == len(PURPOSES)


def test_no_key_comes_twice():
    data = jax.jit(
        jax.vmap(lambda p, s: jax.random.key_data(keys.key_for(jax.random.key(0), p, s)))
    )
    pairs = np.array(list(itertools.product(PURPOSES, range(2000))), np.uint32)
    assert len(np.unique(data(pairs[:, 0], pairs[:, 1]), axis=0)) == len(pairs)


def test_the_root_is_not_among_them_and_roots_differ():
    roots = [jax.random.key(seed) for seed in range(3)]
    found = {tuple(np.asarray(jax.random.key_data(root))) for root in roots}
    for root, purpose in itertools.product(roots, PURPOSES):
        found.add(tuple(np.asarray(jax.random.key_data(keys.key_for(root, purpose, 0)))))
    assert len(found) == 3 + 3 * len(PURPOSES)


def test_a_traced_step_gives_the_same_key():
    root = jax.random.key(5)
    traced = jax.jit(lambda step: keys.key_for(root, keys.UPDATE, step))(np.uint32(7))
    assert traced == keys.key_for(root, keys.UPDATE, 7)
