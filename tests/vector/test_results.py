"""What games return in another form is understood, or refused by the rule that it breaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from vector_games import CountGame

from kitae_marl.errors import EnvDataError, GameRuleError
from kitae_marl.vector.workers.subproc import SubProcVecParallelEnv


class Changed(CountGame):
    """Changes what ``reset`` and ``step`` return."""

    def __init__(self, on_reset: Any = None, on_step: Any = None) -> None:
        super().__init__(length=4)
        self.changes = on_reset, on_step

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        result = super().reset(seed, options)
        return result if self.changes[0] is None else self.changes[0](*result)

    def step(self, actions: dict[str, Any]) -> Any:
        result = super().step(actions)
        return result if self.changes[1] is None else self.changes[1](*result)


def play(*changes: Any) -> list[float]:
    """Rewards of agent a_1 in six steps."""
    with SubProcVecParallelEnv([lambda: Changed(*changes)], n_workers=0) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(1, int) for agent in vec.possible_agents}
        return [float(vec.step(zeros)[1]["a_1"][0]) for _ in range(6)]


def each(values: dict[str, Any], change: Any) -> dict[str, Any]:
    return {agent: change(value) for agent, value in values.items()}


@pytest.mark.parametrize(
    ("on_reset", "on_step"),
    [
        (lambda o, i: o, None),
        (lambda o, i: (o, None), None),
        (lambda o, i: [o, i], None),
        (lambda o, i: (o, dict.fromkeys(o)), None),
        (None, lambda o, r, t, u, i: [o, r, t, u, i]),
        (None, lambda o, r, t, u, i: (o, r, t, u, None)),
        (None, lambda o, r, t, u, i: (o, r, t, u, dict.fromkeys(o))),
        (None, lambda o, r, t, u, i: (o, each(r, lambda x: np.array([x])), t, u, i)),
        (None, lambda o, r, t, u, i: (o, each(r, lambda x: [x]), t, u, i)),
        (None, lambda o, r, t, u, i: (o, r, each(t, int), each(u, np.bool_), i)),
        (None, lambda o, r, t, u, i: (o, r, each(t, lambda x: None), u, i)),
    ],
)
def test_what_can_be_understood_runs(on_reset: Any, on_step: Any) -> None:
    assert play(on_reset, on_step) == [1, 2, 3, 4, 1, 2]


@pytest.mark.parametrize(
    ("on_reset", "on_step", "rule"),
    [
        (lambda o, i: None, None, r"reset\(\): expected \(observations, infos\), got None"),
        (lambda o, i: (o, i, i), None, "got a tuple of 3 values"),
        (lambda o, i: ([*o.values()], i), None, "observations of reset.*got a list of 2"),
        (lambda o, i: (o, [i]), None, "infos: expected a dict by agent"),
        (None, lambda o, r, t, u, i: (o, r, t, i), "tuple of 4 .*terminations .* apart from"),
        (None, lambda o, r, t, u, i: None, r"step\(\): expected .*got None"),
        (None, lambda o, r, t, u, i: ([*o.values()], r, t, u, i), "observations of step.*list"),
        (None, lambda o, r, t, u, i: (o, 1.0, t, u, i), "rewards of step.*type float"),
        (None, lambda o, r, t, u, i: (o, r, False, u, i), "terminations of step.*type bool"),
        (None, lambda o, r, t, u, i: (o, r, t, None, i), "truncations of step.*got None"),
        (None, lambda o, r, t, u, i: (o, r, t, u, "x"), "infos: expected a dict by agent"),
        (None, lambda o, r, t, u, i: (o, r, each(t, lambda x: "no"), u, i), "True or False"),
        (None, lambda o, r, t, u, i: (o, r, t, u, each(o, lambda x: "no")), "info of agent 'a_0'"),
    ],
)
def test_what_cannot_is_refused_by_its_rule(on_reset: Any, on_step: Any, rule: str) -> None:
    with pytest.raises(GameRuleError, match=rule):
        play(on_reset, on_step)


def test_a_game_that_does_not_list_its_agents_is_told_so() -> None:
    def forget(o: Any, i: Any) -> Any:
        return o, i

    class Silent(Changed):
        def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
            result = super().reset(seed, options)
            self.agents: Any = None
            return result

    with (
        SubProcVecParallelEnv([lambda: Silent(forget)], n_workers=0) as vec,
        pytest.raises(GameRuleError, match=r"expected env\.agents, the list"),
    ):
        vec.reset(seed=0)


def test_no_reward_is_still_named() -> None:
    with pytest.raises(EnvDataError, match="reward of agent 'a_0': expected one number, got None"):
        play(None, lambda o, r, t, u, i: (o, each(r, lambda x: None), t, u, i))


@pytest.mark.parametrize("name", ["terminations", "truncations"])
def test_a_flag_of_the_game_as_a_whole_is_left_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = 2 if name == "terminations" else 3

    def add(*results: Any) -> Any:
        over = name == "truncations" and all(results[3].values())
        return (*results[:place], {**results[place], "__all__": over}, *results[place + 1 :])

    assert play(None, add) == [1, 2, 3, 4, 1, 2]
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"'__all__' in {name} is no agent and is left out; every agent has a flag of its own "
        "(said once)."
    ]


def test_it_cannot_stand_for_the_flags_of_the_agents() -> None:
    def over(o: Any, r: Any, t: Any, u: Any, i: Any) -> Any:
        return o, r, {**t, "__all__": r["a_0"] == 2}, u, i

    rule = r"terminations\['__all__'\] of agent 'a_0': expected True only with a flag for every"
    with pytest.raises(EnvDataError, match=rule):
        play(None, over)


@pytest.mark.parametrize("place", range(4))
def test_other_names_are_refused_on_the_first_step(place: int) -> None:
    def add(*results: Any) -> Any:
        more = {**results[place], "common": 0.0}
        return (*results[:place], more, *results[place + 1 :])

    with SubProcVecParallelEnv([lambda: Changed(None, add)], n_workers=0) as vec:
        vec.reset(seed=0)
        zeros = {agent: np.zeros(1, int) for agent in vec.possible_agents}
        with pytest.raises(GameRuleError, match=r"s of step\(\): .*got 'common'.* are no agents"):
            vec.step(zeros)


def test_infos_of_nobody_are_passed_over() -> None:
    def add(o: Any, r: Any, t: Any, u: Any, i: Any) -> Any:
        return o, r, t, u, {**i, "common": np.arange(3)}

    assert play(None, add) == [1, 2, 3, 4, 1, 2]
