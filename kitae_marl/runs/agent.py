"""This file has the agent, which holds what one run changes and calls an algorithm's functions."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from kitae_marl.config.checks import require
from kitae_marl.config.learner import WhichPolicy
from kitae_marl.config.run import Config
from kitae_marl.data.groups import learning_groups
from kitae_marl.data.keys import INIT, key_for
from kitae_marl.data.rollout import RolloutBuffer, rollout_bytes
from kitae_marl.data.stacking import AgentDict
from kitae_marl.errors import ConfigError
from kitae_marl.loops.compiling import Once, require_rollout_memory, require_state_memory
from kitae_marl.loops.update import learn_factory
from kitae_marl.players.player import Player
from kitae_marl.players.transfer import begun_with, player_for
from kitae_marl.runs import session
from kitae_marl.runs.callbacks import Callback, make_hooks
from kitae_marl.runs.store import contents
from kitae_marl.runs.store.checkpoint import RunCheckpointer, RunState
from kitae_marl.runs.store.search import LAST, run_at
from kitae_marl.runs.store.seats import state_digest
from kitae_marl.runs.terminal import counted
from kitae_marl.types import (
    AgentPyTree,
    AgentSpaces,
    AlgoType,
    Buffer,
    GroupSpec,
    TrainState,
)


class Agent:
    """Parameters, keys and counters of one run, and the compiled functions that use them.

    It speaks dicts keyed by agent, ``{agent: [E, ...]}``, and serves any number of environments.

    Args:
        env: anything with ``possible_agents``, ``observation_space(agent)`` and
            ``action_space(agent)``; only its agents and spaces are read.
        config: settings of the run.

    Attributes:
        algorithm: the record of pure functions it runs.
        config: the settings.
        possible_agents: all agents, in the game's order.
        groups: how they are stacked and who shares parameters.
        carry: memory of recurrent policies before the next step that is explored,
            ``{group: [E, A, ...]}``; ``()`` for feed-forward ones.
        step: joint steps explored.
        first_update_at: time (seconds since the epoch) at which the first update was done, or 0.
        learned_step: joint steps learned from, those of the last update; of an agent loaded with a
            config of another width, joint steps of the run until it is trained.
        origin: whose networks it began with (``begin_with``); None: its own.
        stopping: number of the signal that asked the training to end, 0 before; SIGPIPE where
            nobody reads the progress any more, ``callbacks.ASKED`` where a callback asked.

    Raises:
        TypeError: for an action or observation space that no network fits.
    """

    def __init__(self, env: AgentSpaces, config: Config | None = None) -> None:
        config = Config() if config is None else _checked(config)
        config = dataclasses.replace(config)  # checked anew: its algorithm may be registered by now
        groups = learning_groups(env, config)
        self._setup(list(env.possible_agents), groups, config)

    def _setup(
        self, possible_agents: list[str], groups: tuple[GroupSpec, ...], config: Config
    ) -> None:
        """Make keys, and what is compiled, each function once."""
        self.config, self.possible_agents, self.groups = config, possible_agents, groups
        self._player = Player(possible_agents, groups, config, jax.random.key(config.seed))
        self.algorithm = self._player.algorithm
        self.carry: Any = ()
        self.step = self.learned_step = 0
        self._counted_envs = config.n_envs
        self.origin: dict[str, Any] | None = None
        self.stopping = 0
        self.first_update_at = 0.0
        self._game: Any = ()
        self._checkpoints: RunCheckpointer | None = None
        self._update = jax.jit(learn_factory(self.algorithm, groups, config), donate_argnums=0)
        train_state = self.algorithm.train_state(groups, config)

        def init(root: jax.Array) -> Any:
            return train_state(key_for(root, INIT, 0))

        self._first_state = Once(jax.jit(init).trace(self.root_key))
        require_state_memory(self.state_shapes, config.learner)
        self._state: Any = None

    def __repr__(self) -> str:
        groups, config = counted(len(self.groups), "group"), self.config
        whom = f"{counted(len(self.possible_agents), 'agent')} in {groups}"
        return f"Agent({config.env_id}, {config.algo}, {whom}, {self.env_steps} env steps)"

    def begin_to_draw(self) -> None:
        """Compile what draws the first parameters, beside what the caller does next."""
        if self._state is None:
            self._first_state.begin()

    def draw_like(self, other: Agent) -> None:
        """Draw by the program of an agent whose config differs in seed and ``TRACED`` at most."""
        self._first_state = other._first_state

    def _acting(self) -> Player:
        """Return the player, its parameters drawn: not before they are needed, if they are."""
        if self._state is None:
            self.state = self._first_state(self.root_key)
        return self._player

    @property
    def state_shapes(self) -> dict[str, TrainState]:
        """The state, its arrays replaced by their shapes and dtypes; it need not be drawn."""
        return self._first_state.shapes

    @property
    def env_steps(self) -> int:
        """Environment steps learned from, all environments together."""
        return self.learned_step * self._counted_envs

    def count_anew(self) -> None:
        """Go over to joint steps of the config's width, before training with it.

        Random keys are derived from joint steps: with another number of them the root key changes,
        so that none is used twice.

        Raises:
            ConfigError: if what was learned is no whole number of the config's rollouts, or of its
                joint steps where the algorithm learns at any of them.
        """
        config, done = self.config, self.env_steps
        by_rollout = self.algorithm.algo_type is AlgoType.ON_POLICY
        if done % (config.rollout_size if by_rollout else config.n_envs):
            of = "n_envs * n_steps" if by_rollout else "n_envs"
            raise ConfigError(
                f"n_envs: expected {of} to divide the {done} environment steps that were learned "
                f"from, with {self._counted_envs} environments, got n_envs={config.n_envs} and "
                f"n_steps={config.learner.n_steps}; take other numbers, or begin a new run.",
                "n_envs",
            )
        if self._counted_envs != config.n_envs:
            self._player.root_key = jax.random.fold_in(self.root_key, self._counted_envs)
            self._checkpoints = None  # its games are of another width: new ones begin
            self._counted_envs = config.n_envs
            self.step = self.learned_step = done // config.n_envs

    @property
    def root_key(self) -> jax.Array:
        """The key every other one is derived from."""
        return self._player.root_key

    @property
    def state(self) -> dict[str, TrainState]:
        """What learning changes, ``{group: TrainState}``."""
        self._acting()
        return self._state

    @state.setter
    def state(self, state: dict[str, TrainState]) -> None:
        self._state = self._player.state = state

    def explore(
        self, observations: AgentPyTree, infos: Mapping[str, Any] | None = None
    ) -> tuple[AgentDict, AgentDict]:
        """Sample actions to learn from, all agents of all environments in one compiled call.

        Args:
            observations: ``{agent: [E, ...]}``; may be live views of shared memory: they have been
                read when the call returns.
            infos: as the environment returned them with the observations; read for action masks.

        Returns:
            ``(actions, extras)`` by agent, NumPy arrays ``[E, ...]``; extras are what the algorithm
            wants stored beside the actions, nothing (``{}``) for some.
        """
        sampled = self._acting().explore(self.step, self.carry, observations, infos or {})
        action, extras, self.carry = sampled
        self.step += 1
        return action, extras

    def select_action(
        self,
        observations: AgentPyTree,
        infos: Mapping[str, Any] | None = None,
        *,
        sample: bool = False,
    ) -> AgentDict:
        """Choose actions to play: the most probable ones, or sampled ones with ``sample``.

        Args and shapes as for ``explore``; the counters of training are left alone. Recurrent
        policies have a memory for this, beside that of training: it begins anew where ``infos``
        say that an episode has begun, as those of ``reset`` do, and when the number of
        environments changes.
        """
        return self._acting().select_action(observations, infos, sample=sample)

    def probabilities(
        self, observations: AgentPyTree, infos: Mapping[str, Any] | None = None
    ) -> AgentDict:
        """Return how probable each action is; as :meth:`Player.probabilities` says."""
        return self._acting().probabilities(observations, infos)

    def act(
        self,
        agent: str | int,
        observation: Any,
        mask: np.ndarray | None = None,
        *,
        sample: bool = False,
    ) -> Any:
        """Choose one action of one agent in one environment, as PettingZoo's own loop asks for it.

            actions = {a: agent.act(a, observations[a]) for a in env.agents}

        Args, result and errors as of :meth:`Player.act`.
        """
        return self._acting().act(agent, observation, mask, sample=sample)

    def player(
        self,
        *,
        seed: int | None = None,
        env: AgentSpaces | None = None,
        simulations: int | None = None,
        policy: WhichPolicy = LAST,
    ) -> Player:
        """Return what plays with copies of the present parameters and learns nothing.

        Args:
            seed: seed of what it samples; None: that of this agent, from the start.
            env: environment to play in, where it has other agents: networks that agents of a group
                share play for any number of them.
            simulations: of algorithms that search (alphazero), how many positions it looks at
                before each move, 0 for none; None: as many as the config says.
            policy: the last policy, or the average of those there were in training.

        Raises:
            ConfigError: if no network can play for an agent of ``env``, and why; for simulations
                of an algorithm that does not search; if no average was kept.
        """
        player = self._acting()
        if policy != LAST:
            player = player.with_state(self._state_of(policy))
        if simulations is not None:
            player = player.with_simulations(simulations)
        return (player if env is None else player_for(player, env)).player(seed=seed)

    def _state_of(self, policy: WhichPolicy) -> Any:
        """Return a state that acts by one of the policies.

        Raises:
            ConfigError: if it was not kept, or there is none of that name.
        """
        if policy == LAST:
            return self.state
        require(policy in get_args(WhichPolicy), "policy", "last or average", policy)
        if self.algorithm.average is None:
            raise ConfigError(
                f"policy: expected an algorithm that keeps an average policy, got "
                f"{self.config.algo}; its record (kitae_marl.Algorithm) has no average.",
                "policy",
            )
        return self.algorithm.average(self.state)

    def begin_with(self, trained: Agent, run: str | Path | None = None) -> None:
        """Begin with the networks of a trained agent, to train them further on another game.

        The optimiser and all counters are those of a new run, whose folder will hold an
        ``init.json`` that says what it began with.

        Args:
            trained: an agent whose networks have the same sizes; the number of agents may be
                another one where they share a network that does not depend on it.
            run: folder of its run, for that file.

        Raises:
            ConfigError: if the networks do not fit, and why; or if this agent has learned already.
            TypeError: if it is no agent.
        """
        if not isinstance(trained, Agent):
            raise TypeError(
                f"expected a trained kitae_marl.Agent, got {type(trained).__name__}; "
                "Agent.load(run) makes one of a run."
            )
        if self.learned_step:
            raise ConfigError(
                f"expected an agent before training, got one of {self.env_steps} environment "
                "steps; make a new one for networks to begin with."
            )
        self.state = begun_with(self.state, self.groups, trained.state, trained.groups)
        self.origin = {
            "run": None if run is None else str(run),
            "env_id": trained.config.env_id,
            "env_kwargs": dict(trained.config.env_kwargs),
            "env_step": trained.env_steps,
            "sha256": state_digest(trained.run_state()),
        }

    def make_buffer(self, n_envs: int) -> RolloutBuffer:
        """Return an empty rollout store.

        Raises:
            ValueError: if ``n_envs`` is not the number the config was made for.
            ConfigError: if the rollout would not fit into memory.
        """
        self.require_n_envs(n_envs)
        n_bytes = rollout_bytes(self.groups, self.config.learner.n_steps, n_envs)
        require_rollout_memory(n_bytes, self.config)
        self.carry = self._player.first_carry(n_envs)
        return RolloutBuffer(self.config.learner.n_steps)

    def require_n_envs(self, n_envs: int) -> None:
        """Raise a ValueError unless this is the number of environments the config was made for."""
        if n_envs != self.config.n_envs:
            raise ValueError(
                f"expected {self.config.n_envs} environments, the config's n_envs, got {n_envs}; "
                "make the config with the number of environments you have."
            )

    def should_update(self, step: int, buffer: Buffer) -> bool:
        """Whether the rollout is complete."""
        del step
        return buffer.full

    def update(self, buffer: Buffer) -> dict[str, float]:
        """Learn from the rollout and empty the buffer.

        Returns:
            The algorithm's metrics by name, means over epochs and minibatches.
        """
        experience = buffer.experience()
        state, info = self._update(self.state, self.root_key, np.uint32(self.step), experience)
        jax.block_until_ready(state)  # the buffer's memory is written again after this
        self.learned(state, self.step, self._game)
        buffer.clear()
        return {name: float(value) for name, value in jax.device_get(info).items()}

    def run_state(self) -> RunState:
        """Return all that a continuation needs, as of the last update."""
        root = np.asarray(jax.random.key_data(self.root_key))
        return RunState(self.state, root, np.asarray(self.learned_step, np.int64), self._game)

    def learned(self, state: dict[str, TrainState], step: int, game: Any) -> None:
        """Take over what was learned: the state after ``step`` joint steps.

        ``game`` is what the compiled loop needs to go on with its games, any pytree of arrays.
        """
        self.state, self._game, self._checkpoints = state, game, None
        self.step = self.learned_step = step
        self.first_update_at = self.first_update_at or time.time()

    def saved_game(self, template: Any) -> Any:
        """Return the ``game`` of the checkpoint this agent was loaded from, and keep it.

        None where it has learned since: it is trained on in this process, on new games.

        Args:
            template: a pytree of the same structure, shapes and dtypes.

        Raises:
            CheckpointError: if that one holds other games.
        """
        if self._checkpoints is None:
            return None
        whole = self.run_state()._replace(game=template)
        self._game = self._checkpoints.restore(whole, self.env_steps).game
        return self._game

    def load_state(self, run_state: RunState) -> None:
        """Continue from a RunState of an agent with the same groups and config."""
        root_key = jax.random.wrap_key_data(jax.numpy.asarray(run_state.root_key))
        self._player.root_key = root_key
        self.state = jax.tree.map(jax.numpy.array, run_state.state)  # copies: updates donate them
        self.step = self.learned_step = int(run_state.step)
        self._game = ()

    def train(
        self,
        env: Any,
        run_dir: str | Path | None = None,
        *,
        overwrite: bool = False,
        show: bool = True,
        callbacks: Sequence[Callback] = (),
        evaluate: Callable[[Agent], Mapping[str, float]] | None = None,
        evaluate_every: int | None = None,
    ) -> dict[str, Any]:
        """Train for ``config.env_steps`` environment steps; close the environment.

        Args:
            env: the vector environment (or what ``check_env`` accepts), ``config.n_envs`` wide.
            run_dir: folder for config, logs and checkpoints, empty or new; None: nothing is kept.
            overwrite: replace the run that ``run_dir`` holds.
            show: whether to print progress.
            callbacks: objects derived from ``kitae_marl.Callback``, called after updates and
                evaluations and at the end; they may ask for the end.
            evaluate: ``evaluate(agent) -> metrics``, numbers by name, which are logged as
                ``evaluation/<name>``; ``kitae_marl.evaluation_of`` makes one that plays episodes.
            evaluate_every: environment steps between two evaluations.

        Returns:
            The summary that is also written to ``summary.json``.

        Raises:
            RunExistsError: if ``run_dir`` is not empty.
            RunLockedError: if another trainer is at work in it.
            CheckpointWriteError: if the last state could not be saved.
            TrainingDivergedError: if update after update was not finite.
            ConfigError: if the agent has already done ``config.env_steps``.
            ValueError: if the environment has other agents or spaces.
            KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, or where nobody reads the
                progress any more (141), once the state is saved.
        """
        with session.closing_on_error(env):
            hooks = make_hooks(callbacks, evaluate, evaluate_every)
        path = None if run_dir is None else Path(run_dir).resolve()
        return session.train([self], env, [path], overwrite=overwrite, show=show, hooks=hooks)[0]

    def resume(
        self,
        env: Any,
        run_dir: str | Path,
        *,
        step: int | Literal["best"] | None = None,
        exact: bool = False,
        show: bool = True,
        callbacks: Sequence[Callback] = (),
        evaluate: Callable[[Agent], Mapping[str, float]] | None = None,
        evaluate_every: int | None = None,
    ) -> dict[str, Any]:
        """Go on with a run from a checkpoint, to the end of ``config.env_steps``.

        With compiled games the run ends as it would have without interruption, to the bit. Games in
        Python are not saved: new episodes begin, from seeds that the run has not used yet, the same
        whenever the same checkpoint is gone on from. Nothing in the folder changes before it is
        clear that the run can go on; a run that has all its steps is left as it is. Times and rates
        of the summary are those of this part of the run.

        Args and errors as for ``train``, and:
            step: environment step of the checkpoint, or ``"best"``: the one that was evaluated
                best; None: the newest that can be read.
            exact: refuse what the last bit could suffer from: other versions, device or number of
                threads, and games in Python.

        Raises:
            NoCheckpointError: if the run has no readable checkpoint.
            CheckpointCorruptError: if the checkpoint of ``step`` is damaged.
            CheckpointIncompatibleError: if it does not fit, or with ``exact``.
            ConfigError: if a setting differs from the run's that may not, or the run is already
                beyond ``config.env_steps``.
            RunLockedError: if another trainer is at work in the folder.
        """
        with session.closing_on_error(env):
            hooks = make_hooks(callbacks, evaluate, evaluate_every)
        return session.resume(self, env, run_dir, step=step, exact=exact, show=show, hooks=hooks)

    def save(self, run_dir: str | Path, *, overwrite: bool = False) -> Path:
        """Keep the agent as it is now in a run folder, as if its training had stopped here.

        Training keeps its runs by itself; this is for agents that came about in another way.

        Args:
            run_dir: the folder, new or empty.
            overwrite: replace what it holds.

        Returns:
            The folder; ``Agent.load`` and all commands take it.

        Raises:
            RunExistsError: if ``run_dir`` is not empty.
            CheckpointWriteError: if the disk refuses.

        Example:
            >>> import tempfile
            >>> from kitae_marl import Agent, Config, make_vec_env
            >>> env = make_vec_env("gymnasium:CartPole-v1", 1, n_workers=0)
            >>> agent = Agent(env, Config("gymnasium:CartPole-v1"))
            >>> env.close()
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Agent.load(agent.save(f"{folder}/new"))
            Agent(gymnasium:CartPole-v1, ippo, 1 agent in 1 group, 0 env steps)
        """
        path = Path(run_dir).resolve()
        self._acting()
        session.save(self, path, overwrite=overwrite)
        return path

    def load_checkpoint(
        self, run_dir: Path, step: int | Literal["best"] | None = None
    ) -> dict[str, Any]:
        """Take over parameters, optimiser, key and counters of a checkpoint.

        Args:
            run_dir: the run folder.
            step: environment step of the checkpoint, or ``"best"``; None: the newest.

        Returns:
            What the checkpoint says of itself.
        """
        # a config of another width may play here, but what was saved counts in the run's own
        stored = contents.read_config(run_dir) if contents.is_run(run_dir) else self.config
        if contents.is_run(run_dir) and (run_dir / contents.AGENTS_FILE).exists():
            self._group_as(*contents.read_groups(run_dir))
        self._checkpoints = RunCheckpointer(
            run_dir / "checkpoints", save_every=1, num_envs=stored.n_envs
        )
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.state_shapes)
        template = RunState(zeros, jax.random.key_data(self.root_key), np.zeros((), np.int64))
        self.load_state(self._checkpoints.restore(template, step))
        self._counted_envs = stored.n_envs
        return self._checkpoints.manifest

    def _group_as(self, possible_agents: list[str], groups: tuple[GroupSpec, ...]) -> None:
        """Take over the groups of a run: what belongs together by default has changed once."""
        if groups == self.groups or possible_agents != self.possible_agents:
            return
        own, theirs = (
            {agent: dataclasses.replace(g, name="", agents=()) for g in part for agent in g.agents}
            for part in (self.groups, groups)
        )
        if own == theirs:  # else the checkpoint does not fit, and says why
            self._setup(possible_agents, groups, self.config)

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        step: int | Literal["best"] | None = None,
        policy: WhichPolicy | None = None,
        config: Config | None = None,
        simulations: int | None = None,
    ) -> Agent:
        """Load the agent of a run, without its game.

        Args:
            run: path of a run folder, or name of a run in ``runs``; ``"RUN@STEP"`` names the step,
                too, and ``"RUN@average"`` or ``"RUN@STEP@average"`` the policy.
            step: environment step of the checkpoint, or ``"best"``: the one that an evaluation
                during training found best; None: the newest.
            policy: ``"last"``, or ``"average"``: the agent acts by the average policy of the
                training, and would learn on from there; None: the last one, unless ``run`` says it.
            config: overrides the stored config, for instance to train for longer. With another
                ``n_envs`` the agent counts the environment steps of its run all the same.
            simulations: of algorithms that search (alphazero), how many positions it looks at
                before each move when it plays, 0 for none; None: as many as the config says.

        Raises:
            NoCheckpointError: if there is no such run or no readable checkpoint.
            CheckpointIncompatibleError: if the config does not fit the checkpoint.
            ConfigError: if a step or policy is given twice, for simulations of what does not
                search, and for the average policy of a run that kept none.
        """
        path, step, policy = run_at(run, step=step, policy=policy)
        config = contents.read_config(path) if config is None else _checked(config)
        if simulations is not None:
            config = config.with_simulations(simulations)
        agent = cls.__new__(cls)
        agent._setup(*contents.read_groups(path), config)
        agent.load_checkpoint(path, step)
        agent.state = agent._state_of(policy)
        return agent


def _checked(config: Any) -> Config:
    """Return a config; raise a TypeError for anything else."""
    if isinstance(config, Config):
        return config
    raise TypeError(
        f"expected a kitae_marl.Config, got {type(config).__name__}; settings of an algorithm go "
        "into its fields, such as Config(ppo=PPOConfig(...))."
    )
