"""A learner with a bug fails its probe; what inactive rows hold changes nothing, to the bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken_learners import BROKEN_LEARNERS, learning_from, mask_ignored, memory_is_kept
from probe_checks import GRU, faults, make_agent, teach
from probe_games import MEMORY_PROBES, PROBES

from kitae_marl.algos import ALGORITHMS
from kitae_marl.errors import EnvError
from kitae_marl.types import Experience

pytestmark = pytest.mark.usefixtures("quickest_compilation")
QUICK = ("done_for_terminated", "movers_sign_flipped")


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        pytest.param(
            name,
            bug,
            id=f"{bug.__name__}-{name}",
            marks=()
            if bug.__name__ in QUICK or (name, bug.__name__) == ("late join", "inactive_rows_count")
            else pytest.mark.slow,
        )
        for name, bug in BROKEN_LEARNERS
    ],
)
def test_a_bug_fails_the_probe(name, bug, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "ippo", learning_from(bug))
    probe = PROBES[name]
    assert faults(teach(make_agent(probe, "ippo"), probe.game), probe) != []


def test_a_forbidden_action_does_not_go_unnoticed(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "ippo", mask_ignored())
    probe = PROBES["masked"]
    with pytest.raises(EnvError, match="a forbidden action was played"):
        teach(make_agent(probe, "ippo"), probe.game)


@pytest.mark.slow
def test_memory_that_is_not_reset_fails_the_probe(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "ippo", learning_from(memory_is_kept))
    monkeypatch.setattr(
        "kitae_marl.players.player.starts", lambda infos, n_envs: np.zeros(n_envs, bool)
    )
    probe = MEMORY_PROBES["memory"]
    assert faults(teach(make_agent(probe, "ippo", **GRU), probe.game), probe) != []


def filled(kind: str, rewards: bool) -> Any:
    """A change of experience: NaN or noise wherever an agent is not to act."""

    def fill(x: jax.Array, on: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        bad = jnp.full_like(x, jnp.nan)
        if kind == "noise":
            bad = 1e3 * jax.random.normal(jax.random.key(x.ndim), x.shape, x.dtype)
        return jnp.where(on.reshape(on.shape + (1,) * (x.ndim - 3)), x, bad)

    def tree(values: Any, on: jax.Array) -> Any:
        return jax.tree.map(lambda x: fill(x, on), values)

    def change(e: Experience) -> Experience:
        new = {}
        for name in e.active:
            on = e.active[name]
            ended = e.terminated[name] | e.truncated[name]
            new[name] = {
                "observation": tree(e.observation[name], on),
                "extras": fill(e.extras[name], on),
                "next_observation": tree(e.next_observation[name], e.next_active[name] | ended),
                "reward": fill(e.reward[name], on) if rewards else e.reward[name],
            }
        fields = ("observation", "extras", "next_observation", "reward")
        return e._replace(**{f: {name: new[name][f] for name in new} for f in fields})

    return change


@pytest.mark.usefixtures("usual_fusions")
@pytest.mark.parametrize(
    ("name", "algo", "settings"),
    [
        ("late join", "ippo", {}),
        pytest.param("early death", "ippo", {}, marks=pytest.mark.slow),
        pytest.param("turn-based", "ippo", {}, marks=pytest.mark.slow),
        pytest.param("late join", "mappo", GRU, marks=pytest.mark.slow),
        pytest.param("turn-based", "mappo", GRU, marks=pytest.mark.slow),
        pytest.param("early death", "ippo", GRU, marks=pytest.mark.slow),
        pytest.param("late join", "mappo", {"share_params": False}, marks=pytest.mark.slow),
    ],
)
def test_what_inactive_rows_hold_changes_nothing(name, algo, settings, monkeypatch):
    """Observations, log-probabilities, and rewards where nobody waits for them, in all training."""
    probe, sound = PROBES[name], ALGORITHMS[algo]

    def learned(algorithm: Any) -> list[np.ndarray]:
        monkeypatch.setitem(ALGORITHMS, algo, algorithm)
        agent = make_agent(probe, algo, **settings)
        return [np.asarray(x) for x in jax.tree.leaves(teach(agent, probe.game).run_state().state)]

    plain = learned(sound)
    for kind in ("nan", "noise"):
        monkeypatch.setitem(ALGORITHMS, algo, sound)
        change = filled(kind, rewards=name != "turn-based")
        for a, b in zip(plain, learned(learning_from(change, algo)), strict=True):
            np.testing.assert_array_equal(a, b)
