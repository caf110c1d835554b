"""The compiled loop as the host holds it: its program, what it carries, and where that lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kitae_envs.core import Game

from kitae_marl.config.run import differing, with_traced
from kitae_marl.data.keys import REMATCH, key_for
from kitae_marl.loops import compiling, devices
from kitae_marl.loops.compiled import LoopState, chunk_factory, rollout_factory, start_loop
from kitae_marl.loops.compiling import Once
from kitae_marl.loops.long_calls import LongCall
from kitae_marl.types import Run

WITHOUT_ENVIRONMENTS = ("state", "root_key", "game_key", "step")
"""Fields of a LoopState that have no environment axis."""


class CompiledLoop:
    """The compiled loop of one run, or of several in one program: what it runs and carries.

    Several runs are mapped over: their arrays have a leading axis, one entry for each run. Where
    the process has several devices, the environments are split over them.

    Args:
        game: the rules.
        agents: one for each run: state, keys, config; for runs that continue also the games (by
            ``saved_game``). Configs may differ in the seed and in settings that are traced.
        seeds: one for each run, of its games.
        start_step: first joint step, 1 for new runs.
        stopping: whether to end; asked while the program is compiled.

    Attributes:
        loop: the state after the last chunk.
        data: ``Game.data`` that the next chunk is given: other data of the same shapes, such as
            other opponents, need no other program.
        n_steps: joint steps of one update.
        goes_on: whether the games are those of a checkpoint, and not new ones.
        rollout_bytes: memory that the rollouts take which there are at a time.
        program_bytes: memory that the program needs on one device, the rollout and what ``run``
            copies included.

    Raises:
        ConfigError: if the configs differ otherwise, or it does not fit memory or devices.
        GivenUpError: if it was to end; the compiler goes on until it is done.
    """

    def __init__(
        self,
        game: Game,
        agents: Sequence[Run],
        seeds: Sequence[int],
        start_step: int = 1,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        config = agents[0].config
        self.n_steps = config.learner.n_steps
        self._many = len(agents) > 1
        self._mesh = devices.environment_mesh(config.n_envs)
        rollout, start, run = _functions(game, agents[0])
        agents[0].begin_to_draw()
        for agent in agents[1:]:
            agent.draw_like(agents[0])
        keys = [(a.root_key, jax.random.key(s)) for a, s in zip(agents, seeds, strict=True)]
        shapes = [(a.state_shapes, *own) for a, own in zip(agents, keys, strict=True)]
        experience = jax.eval_shape(rollout, jax.eval_shape(start, *shapes[0]), game.data)[1]
        self.rollout_bytes = devices.n_at_a_time(len(agents)) * compiling.n_bytes(experience)
        compiling.require_memory(self.rollout_bytes // self._n_devices, config)
        if self._many:
            start, run = _over_runs(start, run)
        traced = {n: jnp.asarray(x) for n, x in differing([a.config for a in agents]).items()}
        replicated = None if self._mesh is None else devices.replicated(self._mesh)
        self._traced = devices.place(traced, replicated)
        self._replicated = replicated
        self.data = self.placed(game.data)
        starting = self._compile(start, run, jax.eval_shape(self._stack, shapes), stopping)
        compiling.require_memory(self.program_bytes, config)
        inputs = [(a.state, *own) for a, own in zip(agents, keys, strict=True)]
        self._start = starting
        self.loop: LoopState = starting(*self.placed(self._stack(inputs)))
        self.goes_on = start_step > 1 and self._continue(agents)

    @property
    def _n_devices(self) -> int:
        """Devices that the environments are split over."""
        return 1 if self._mesh is None else self._mesh.size

    @property
    def _shares(self) -> bool:
        """Whether ``states`` and ``games`` return the loop's own arrays; else they are copies."""
        return self._mesh is None and not self._many

    def _compile(self, start: Any, run: Any, inputs: Any, stopping: Callable[[], bool]) -> Any:
        """Compile the program, and what starts the games; nothing is allocated.

        Args:
            start: makes the loop's state.
            run: the program.
            inputs: shapes of what ``start`` takes.
            stopping: whether to end.

        Returns:
            ``start``, being compiled.
        """
        shapes = jax.eval_shape(start, *inputs)
        self._places = places = None
        if self._mesh is not None:
            replicated = devices.replicated(self._mesh)
            spread = devices.split(self._mesh, axis=1 if self._many else 0)
            where = {
                n: replicated if n in WITHOUT_ENVIRONMENTS else spread for n in LoopState._fields
            }
            self._places = places = LoopState(
                **{n: jax.tree.map(lambda _, n=n: where[n], getattr(shapes, n)) for n in where}
            )
            inputs = _placed(inputs, jax.tree.map(lambda _: replicated, inputs))
            shapes = _placed(shapes, places)
            places = places, replicated
        first = Once(jax.jit(start, out_shardings=self._places).trace(*inputs))
        first.begin()
        # The agents keep their states, should a chunk fail; all else is updated in place.
        program = jax.jit(run, donate_argnums=1, out_shardings=places)
        rest = shapes._replace(state=())
        with nullcontext() if self._mesh is None else jax.set_mesh(self._mesh):
            inputs = shapes.state, rest, np.int32(1), self._traced, self.data
            lowered = program.lower(*inputs)
        self._run = LongCall(lowered.compile).wait(stopping)
        self.program_bytes = compiling.program_bytes(self._run)
        if self._shares:
            self.program_bytes += compiling.n_bytes(rest)  # their copy, see ``run``
        return first

    @property
    def rest_places(self) -> LoopState | None:
        """Where the arrays of the loop lie, its ``state`` left out; None: on the one device."""
        return None if self._places is None else self._places._replace(state=())

    def placed(self, tree: Any) -> Any:
        """Lay arrays where every device holds them whole."""
        return devices.place(tree, self._replicated)

    def whole(self, tree: Any) -> Any:
        """Bring arrays of the loop together on one device."""
        return devices.whole(tree, self._mesh)

    def fresh(self) -> LoopState:
        """Return the loop as it would be if all games of the one run began now."""
        loop = self.loop
        key = key_for(loop.game_key, REMATCH, loop.step)
        return self._start(loop.state, loop.root_key, key)

    def _continue(self, agents: Sequence[Run]) -> bool:
        """Take over the games of the agents' checkpoints; the steps are counted on in any case.

        Returns:
            Whether all checkpoints held games.
        """
        saved, goes_on = [], True
        for agent, new in zip(agents, self.games(), strict=True):
            old = agent.saved_game(new)
            counted = {**new, "step": np.asarray(agent.learned_step, np.uint32)}
            saved.append(counted if old is None else old)
            goes_on &= old is not None
        games = self._stack(saved)
        places = self._places and {name: getattr(self._places, name) for name in games}
        self.loop = self.loop._replace(**devices.place(games, places))
        return goes_on

    def states(self) -> list[Any]:
        """Return ``{group: TrainState}`` of each run."""
        return self._unstack(self.loop.state)

    def games(self) -> list[dict[str, Any]]:
        """Return what a checkpoint holds of the loop, beside state and keys, for each run."""
        left_out = ("state", "root_key", "game_key")
        kept = {n: x for n, x in self.loop._asdict().items() if n not in left_out}
        return self._unstack(kept)

    def run(self, n_updates: int) -> list[dict[str, Any]]:
        """Run whole updates, at most ``MAX_CHUNK``; return each run's metrics as NumPy arrays.

        What ``states`` and ``games`` returned before stays whole.
        """
        rest = self.loop._replace(state=())
        if self._shares:
            rest = jax.tree.map(jnp.copy, rest)
        n = np.int32(n_updates)
        self.loop, metrics = self._run(self.loop.state, rest, n, self._traced, self.data)
        metrics = jax.device_get(metrics).arrays()
        if not self._many:
            return [metrics]
        n_runs = len(metrics["episodes"])
        return [{name: x[k] for name, x in metrics.items()} for k in range(n_runs)]

    def _stack(self, trees: list[Any]) -> Any:
        """Give the trees of several runs a common leading axis."""
        return jax.tree.map(lambda *x: jnp.stack(x), *trees) if self._many else trees[0]

    def _unstack(self, tree: Any) -> list[Any]:
        """Undo ``_stack``, and the splitting over devices."""
        tree = devices.whole(tree, self._mesh)
        if not self._many:
            return [tree]
        n_runs = self.loop.step.shape[0]
        return [jax.tree.map(lambda x, k=k: x[k], tree) for k in range(n_runs)]


def _functions(game: Game, agent: Run) -> tuple[Any, Any, Any]:
    """Make the functions of one run: its rollout, what starts its games, and a chunk of updates.

    Returns:
        ``rollout(loop_state, data)``, ``start(state, root_key, game_key) -> LoopState`` and
        ``run(state, rest, n_updates, traced, data) -> (LoopState, metrics)``, where ``rest`` is a
        LoopState without the state that learning changes, and ``data`` are the game's.
    """
    algorithm, groups, config = agent.algorithm, agent.groups, agent.config
    # A function of its own for the tracer, which is asked for shapes first: traced once.
    rollout = jax.jit(rollout_factory(game, algorithm, groups, config), inline=True)

    def start(state: Any, root_key: jax.Array, game_key: jax.Array) -> LoopState:
        carry = algorithm.carry(groups, config)(config.n_envs)
        return start_loop(game, groups, config.n_envs, state, carry, root_key, game_key)

    def run(state: Any, rest: LoopState, n_updates: jax.Array, traced: Any, data: Any) -> Any:
        chunk = chunk_factory(rollout, algorithm, groups, with_traced(config, traced))
        return chunk(rest._replace(state=state), n_updates, data)

    return rollout, start, run


def _over_runs(start: Any, run: Any) -> tuple[Any, Any]:
    """Map ``start`` and ``run`` over runs, the leading axis of what they take and return.

    The data of the game are the same for all runs.
    """

    def run_all(state: Any, rest: LoopState, n_updates: jax.Array, traced: Any, data: Any) -> Any:
        def one(state: Any, rest: LoopState, traced: Any) -> Any:
            return run(state, rest, n_updates, traced, data)

        return devices.over_runs(one)(state, rest, traced)

    return devices.over_runs(start), run_all


def _placed(shapes: Any, places: Any) -> Any:
    """Say of shapes where their arrays lie."""
    return jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, places
    )
