"""Statistics of two samples: quiet where both are of one distribution, loud where they are not."""

import itertools

import numpy as np
from kitae_envs.proofs.samples import KS_LIMIT, PAIR_LIMIT, gap, pair_gap


def uniform(n: int, seed: int) -> np.ndarray:
    """Two columns of coordinates, one of goals, one that never varies."""
    rng = np.random.default_rng(seed)
    goals = rng.integers(3, size=(n, 1))
    return np.concatenate([rng.uniform(-1, 1, (n, 2)), goals, np.ones((n, 1))], axis=1)


def test_equal_distributions_stay_below_the_limits() -> None:
    pairs = [pair_gap(uniform(300, seed), uniform(1200, 999 - seed)) for seed in range(100)]
    assert max(pairs) < PAIR_LIMIT / 1.3
    assert np.mean(pairs) > 0, "the largest of several pairs is above the middle"
    gaps = [gap(uniform(300, s)[:, 0], uniform(1200, 999 - s)[:, 0]) for s in range(100)]
    assert 0.5 < np.mean(gaps) < 1.2
    assert max(gaps) < KS_LIMIT


def test_columns_that_go_together_are_found_though_each_is_as_it_should_be() -> None:
    plain = uniform(300, 0)
    for first, second in itertools.permutations(range(3), 2):
        tied = uniform(1200, 1)
        values = np.sort(tied[:, second])  # the same values, in the order of the other column
        tied[np.argsort(tied[:, first], kind="stable"), second] = values
        assert gap(plain[:, second], tied[:, second]) < KS_LIMIT
        assert pair_gap(plain, tied) > 3 * PAIR_LIMIT


def test_cards_laid_back_into_the_deck_are_found() -> None:
    deck = np.array([0, 0, 1, 1, 2, 2])
    rng = np.random.default_rng(0)
    dealt = np.stack([rng.permutation(deck)[:2] for _ in range(1000)])
    drawn = rng.choice(deck, (4000, 2))
    again = np.stack([rng.permutation(deck)[:2] for _ in range(4000)])
    assert pair_gap(dealt, drawn) > PAIR_LIMIT
    assert pair_gap(dealt, again) < PAIR_LIMIT


def test_without_two_columns_that_vary_there_is_nothing_to_compare() -> None:
    assert pair_gap(np.ones((5, 3)), np.ones((9, 3))) == 0.0
    assert pair_gap(uniform(20, 0)[:, 2:], uniform(30, 1)[:, 2:]) == 0.0
