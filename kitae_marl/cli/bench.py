"""This file measures speed beside the game's own loop: interleaved, medians of repeats."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import psutil
from kitae_envs.core import Game, TimeStep, reset_batch, step_batch
from kitae_envs.sampling import sample_actions

from kitae_marl.cli.options.games import Bench
from kitae_marl.config.run import Config
from kitae_marl.errors import ConfigError
from kitae_marl.vector.options import n_cores


def cpu_seconds() -> float:
    """CPU time so far of this process and its living children."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(t.user + t.system for t in times)


class Speeds:
    """What was measured of one loop, a number for each repeat.

    Attributes:
        steps_per_s: env steps per second.
        cpu_us: CPU microseconds per env step, of this process and its children.
    """

    def __init__(self) -> None:
        self.steps_per_s: list[float] = []
        self.cpu_us: list[float] = []

    def measure(self, run: Callable[[], int]) -> None:
        """Measure one call that returns the env steps it took."""
        cpu, clock = cpu_seconds(), time.perf_counter()
        steps = run()
        self.add(steps, time.perf_counter() - clock, cpu_seconds() - cpu)

    def add(self, steps: int, wall: float, cpu: float) -> None:
        """Add a measurement of so many env steps, in seconds of both kinds."""
        self.steps_per_s.append(steps / wall)
        self.cpu_us.append(1e6 * cpu / steps)

    def medians(self) -> tuple[float, float]:
        """Median of each."""
        return statistics.median(self.steps_per_s), statistics.median(self.cpu_us)

    def spread(self) -> list[float]:
        """Lowest and highest env steps per second."""
        return [round(min(self.steps_per_s), 1), round(max(self.steps_per_s), 1)]


class RawLoop:
    """The game's own single-process loop: PettingZoo's ``parallel_env``, constant actions.

    In a game with masks the actions are the first legal ones. PettingZoo has no ``parallel_env`` of
    the turn-based games: there the raw loop is its own AEC environment behind PettingZoo's
    conversion, all its wrappers included.
    """

    def __init__(self, options: Bench) -> None:
        from kitae_marl.players.policies import FirstLegal
        from kitae_marl.vector.make import make_parallel_env

        self._env: Any = make_parallel_env(options.env_id, stock=True, **options.env_kwargs)
        self._act = FirstLegal(self._env)
        self._last = self._env.reset(seed=options.seed)
        self._seconds = options.seconds

    def __call__(self) -> int:
        """Step for the given time; return the steps."""
        env, end, steps = self._env, time.perf_counter() + self._seconds, 0
        observations, infos = self._last
        while time.perf_counter() < end:
            for _ in range(20):
                if not env.agents:
                    observations, infos = env.reset()
                observations, _, _, _, infos = env.step(self._act(observations, infos))
                steps += 1
        self._last = observations, infos
        return steps

    def close(self) -> None:
        """Close the game."""
        self._env.close()


def _report(raw: Speeds, own: Speeds, extra: dict[str, Any]) -> dict[str, Any]:
    """The figures every bench prints."""
    raw_rate, raw_cpu = raw.medians()
    rate, cpu = own.medians()
    pairs = zip(raw.steps_per_s, own.steps_per_s, strict=True)
    ratios = [ours / (theirs * n_cores()) for theirs, ours in pairs]
    return {
        "raw_env_steps_per_s": round(raw_rate, 1),
        "env_steps_per_s": round(rate, 1),
        "cores": n_cores(),
        "ratio": round(rate / (raw_rate * n_cores()), 3),
        "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "raw_cpu_us_per_env_step": round(raw_cpu, 1),
        "cpu_us_per_env_step": round(cpu, 1),
        "cpu_us_beyond_raw": round(cpu - raw_cpu, 1),
        "raw_env_steps_per_s_spread": raw.spread(),
        "env_steps_per_s_spread": own.spread(),
        **extra,
    }


def _vec_env(options: Bench) -> Any:
    """Our environments, in worker processes."""
    from kitae_marl.vector.make import make_vec_env

    return make_vec_env(
        options.env_id,
        options.n_envs,
        n_workers=options.n_workers,
        stock=options.stock,
        vector_options={"max_episode_steps": options.max_episode_steps},
        **options.env_kwargs,
    )


def _config(options: Bench) -> Config:
    """Default settings, for more steps than will be taken."""
    return Config(
        env_id=options.env_id,
        env_kwargs=options.env_kwargs,
        seed=options.seed,
        n_envs=options.n_envs,
        opponents=options.opponents,
        env_steps=1_000_000_000,
    )


def bench_vector(options: Bench) -> dict[str, Any]:
    """Measure stepping alone, with constant (or first legal) actions.

    Returns:
        Env steps per second of both loops, ``ratio`` of ours to the raw loop times the cores, CPU
        microseconds per env step of the whole process tree, and the spread of the repeats.
    """
    from kitae_marl.players.policies import FirstLegal

    raw_loop, raw, own = RawLoop(options), Speeds(), Speeds()
    env = _vec_env(options)
    act = FirstLegal(env)
    last: Any = env.reset(seed=options.seed)

    def run() -> int:
        nonlocal last
        end, steps = time.perf_counter() + options.seconds, 0
        observations, infos = last
        while time.perf_counter() < end:
            for _ in range(5):
                observations, _, _, _, infos = env.step(act(observations, infos))
                steps += options.n_envs
        last = observations, infos
        return steps

    try:
        run()
        for _ in range(options.repeats):
            raw.measure(raw_loop)
            own.measure(run)
    finally:
        env.close()
        raw_loop.close()
    return _report(raw, own, {"n_envs": options.n_envs})


class _Meter:
    """Measures training between updates; it is passed as the checkpointer, and saves nothing."""

    def __init__(self, options: Bench, raw_loop: RawLoop) -> None:
        self.raw, self.own = Speeds(), Speeds()
        self._options, self._raw_loop = options, raw_loop
        self._mark: tuple[int, float, float] | None = None
        self._updates = 0

    def save(self, step: int, agent: Any) -> None:
        """Called after every update: close a measurement when it has lasted long enough."""
        self._updates += 1
        if self._updates < 3:  # the first updates compile
            return
        clock, cpu = time.perf_counter(), cpu_seconds()
        if self._mark is not None:
            first_step, first_clock, first_cpu = self._mark
            wall = clock - first_clock
            if wall < self._options.seconds:
                return
            steps = (step - first_step) * self._options.n_envs
            self.own.add(steps, wall, cpu - first_cpu)
            self.raw.measure(self._raw_loop)
        if len(self.own.steps_per_s) == self._options.repeats:
            agent.stopping = True
        self._mark = (step, time.perf_counter(), cpu_seconds())


def bench_train(options: Bench) -> dict[str, Any]:
    """Measure the whole of training by IPPO with default settings, logging left out.

    Returns:
        As ``bench_vector``; and the time of one policy call.
    """
    from kitae_marl.loops.train import vectorized_train
    from kitae_marl.runs.agent import Agent

    config = _config(options)
    raw_loop = RawLoop(options)
    env = _vec_env(options)
    agent = Agent(env, config)
    meter = _Meter(options, raw_loop)
    n_steps = config.n_joint_steps
    kind = agent.algorithm.algo_type
    try:
        vectorized_train(options.seed, agent, env, n_steps, kind, checkpointer=meter)
    finally:
        raw_loop.close()
    extra = {"n_envs": options.n_envs, "policy_call_us": policy_call_us(agent)}
    return _report(meter.raw, meter.own, extra)


def bench_compiled(options: Bench) -> dict[str, Any]:
    """Measure a compiled game: stepping by random actions, or with ``train`` IPPO's whole loop.

    Returns:
        Env steps per second, CPU microseconds per env step over all threads (medians of the
        repeats), and seconds until the first call is done, which compile. With ``opponents`` also
        what training against them takes, and the median of its CPU time beside that without.
    """
    from kitae_marl.loops.program import CompiledLoop
    from kitae_marl.runs.agent import Agent
    from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

    env = CompiledVecParallelEnv(options.env_id, options.n_envs, **options.env_kwargs)
    config = _config(options)
    clock = time.perf_counter()
    run: Callable[[int], Any]
    if options.train:
        run = CompiledLoop(env.game, [Agent(env, config)], [options.seed]).run
        unit = config.rollout_size
    else:
        run, unit = random_steps(env.game, options.n_envs, options.seed), options.n_envs
    run(1)
    compile_s = time.perf_counter() - clock
    against = opposed_updates(config) if options.opponents else None

    def measured(run: Callable[[int], Any], n: int) -> int:
        run(n)
        return n * unit

    speeds, opposed, n = Speeds(), Speeds(), 1
    while len(speeds.steps_per_s) < options.repeats:
        clock = time.perf_counter()
        speeds.measure(partial(measured, run, n))
        wall = time.perf_counter() - clock
        if against is not None:
            opposed.measure(partial(measured, against, n))
        # One call is to last about as long as was asked for; with training at most 64 updates.
        if wall < options.seconds / 2 and (not options.train or n < 64):
            speeds, opposed = Speeds(), Speeds()
            n = min(2 * n, 64) if options.train else 2 * n
    steps, cpu = speeds.medians()
    return {
        **({} if against is None else _beside(speeds, opposed)),
        "env_steps_per_s": round(steps, 1),
        "cpu_us_per_env_step": round(cpu, 3),
        "compile_s": round(compile_s, 2),
        "env_steps_per_s_spread": speeds.spread(),
        "n_envs": options.n_envs,
        "train": options.train,
        "device": _device(),
    }


def opposed_updates(config: Config) -> Callable[[int], None]:
    """Return a function that trains so many updates against the opponents of a config."""
    from kitae_marl.loops.opposed import CompiledTable
    from kitae_marl.loops.program import CompiledLoop
    from kitae_marl.runs.agent import Agent
    from kitae_marl.selfplay.opposing import oppose
    from kitae_marl.types import opposition_of
    from kitae_marl.vector.adapters.compiled import CompiledVecParallelEnv

    env = CompiledVecParallelEnv(config.env_id, config.n_envs, **config.env_kwargs)
    agent = Agent(env, config)
    opposing = oppose(env, agent)
    game: Any = opposing.game
    pool = opposition_of(opposing)
    if game is None or pool is None:
        raise ConfigError(
            f"opponents: expected some that play inside XLA, got {config.opponents}.", "opponents"
        )
    loop = CompiledLoop(game, [agent], [config.seed])
    table = CompiledTable(loop, game, agent.groups)
    pool.begin(0, agent, table)
    step = 0

    def run(n: int) -> None:
        nonlocal step
        while n:
            updates = min(n, pool.until_due(step) // loop.n_steps)
            loop.run(updates)
            step += updates * loop.n_steps
            n -= updates
            pool.after(step, agent, table)

    run(1)
    return run


def _beside(speeds: Speeds, opposed: Speeds) -> dict[str, Any]:
    """Say what opponents cost: the median of ratios of measurements that were made in turn."""
    ratios = [a / b for a, b in zip(opposed.cpu_us, speeds.cpu_us, strict=True)]
    steps, cpu = opposed.medians()
    return {
        "opposed_env_steps_per_s": round(steps, 1),
        "opposed_cpu_us_per_env_step": round(cpu, 3),
        "opposed_cpu_ratio": round(statistics.median(ratios), 3),
        "opposed_cpu_ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def _device() -> str:
    """Kind of the device that JAX computes on."""
    import jax

    return jax.devices()[0].device_kind


def policy_call_us(agent: Any, n_calls: int = 500) -> float:
    """Median microseconds of one ``explore``, NumPy to NumPy, all agents and environments."""
    from kitae_marl.data.spaces import zeros
    from kitae_marl.data.stacking import unstack

    lead = {group.name: (agent.config.n_envs, group.n_agents) for group in agent.groups}
    stacked = {g.name: zeros(g.observation_space, *lead[g.name]) for g in agent.groups}
    observations = unstack(stacked, agent.groups)
    times = []
    for _ in range(n_calls):
        clock = time.perf_counter()
        agent.explore(observations)
        times.append(time.perf_counter() - clock)
    return round(1e6 * statistics.median(times), 1)


def random_steps(game: Game, n_envs: int, seed: int) -> Callable[[int], None]:
    """Return a function that steps ``n_envs`` games ``n`` times with random legal actions."""

    def run(games: Any, view: TimeStep, key: jax.Array, n: jax.Array) -> Any:
        def body(i: jax.Array, both: Any) -> Any:
            games, step = both
            action_key, chance = jax.random.split(jax.random.fold_in(key, i))
            action = sample_actions(game, action_key, step)
            return step_batch(game, chance, games, action)

        return jax.lax.fori_loop(0, n, body, (games, view))

    compiled = jax.jit(run, donate_argnums=(0, 1))
    start_key, key = jax.random.split(jax.random.key(seed))
    state = [jax.jit(lambda k: reset_batch(game, k, n_envs))(start_key), key]

    def steps(n: int) -> None:
        state[1], use = jax.random.split(state[1])
        state[0] = jax.block_until_ready(compiled(*state[0], use, np.int32(n)))

    return steps
