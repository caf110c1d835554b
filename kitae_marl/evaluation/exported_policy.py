"""A policy trained by kitae_marl, in NumPy alone.

    policy = Policy("policy.npz")
    action = policy.act("agent_0", observation)  # the most probable action
    action = policy.act("agent_0", observation, sample=True, rng=0)  # as in training
    policy.probabilities("agent_0", observation), policy.value("agent_0", observation)

An observation is what the agent's observation space holds, or a batch with any leading axes. A
recurrent policy remembers, agent by agent, the observations of its own decisions: call ``act`` only
when the agent is to act, and ``reset`` when an episode begins; ``probabilities`` and ``value`` are
those of the decision that ``act`` would make next. The file is data, never executed.
"""

import json

import numpy as np


class Policy:
    """The policies of all agents of a game; ``agents`` names them."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self._arrays = {name: file[name] for name in file.files if name != "about"}
            self._about = json.loads(str(file["about"]))
        if self._about.get("format") != 2:
            raise ValueError(f"expected a policy of format 2, got {self._about.get('format')!r}")
        self.agents = list(self._about["agents"])
        self._nets = {agent: self._load(**place) for agent, place in self._about["agents"].items()}
        self.reset()

    def _load(self, group, index):
        """Pick what one agent acts with; independent agents have an axis of their own."""
        about = self._about["groups"][group]
        prefix = f"{about['prefix']}/"
        arrays = {k[len(prefix) :]: v for k, v in self._arrays.items() if k.startswith(prefix)}
        if not about["share_params"]:
            arrays = {k: v if k.startswith("bound/") else v[index] for k, v in arrays.items()}
        return about, arrays, index

    def reset(self, agent=None):
        """Forget what an agent, or every agent, has seen."""
        if agent is None:
            self._memory = {}
        self._memory.pop(agent, None)

    def act(self, agent, observation, mask=None, sample=False, rng=None, *, action_mask=None):
        """Return an action that a mask allows, the first or any where it allows none.

        It is the most probable one, or with ``sample`` one drawn by ``rng``: a generator of NumPy,
        or a seed; None draws anew each time. ``action_mask`` is an older name of ``mask``.
        """
        mask = action_mask if mask is None else mask
        about, arrays, out, memory = self._decide(agent, observation, mask)
        if sample:
            kinds, rng = _kinds(about["action_space"], arrays, "bound"), np.random.default_rng(rng)
            scale = _scale(kinds, arrays)
            noise = {"b": rng.logistic(size=out.shape), "f": scale * rng.normal(size=out.shape)}
            gumbel = rng.gumbel(size=out.shape)  # added, the largest is a draw from the softmax
            out = out + np.select([kinds == "b", kinds == "f"], [noise["b"], noise["f"]], gumbel)
        if about["gru_size"]:
            self._memory[agent] = memory
        return _each(about["action_space"], arrays, "bound", _most_probable, out)

    def probabilities(self, agent, observation, mask=None):
        """Return how probable each action is, nested like the action space.

        Of a Discrete an array ``[n]``; of a MultiDiscrete and a Box of integers a tuple of one for
        each number; of a MultiBinary how probable 1 is; of other Boxes ``{"mean", "deviation"}`` of
        the normal distribution that is clipped to the bounds.
        """
        about, arrays, out, _ = self._decide(agent, observation, mask)
        space = about["action_space"]
        scale = np.broadcast_to(_scale(_kinds(space, arrays, "bound"), arrays), out.shape)
        return _each(space, arrays, "bound", _probable, out, scale)

    def value(self, agent, observation):
        """Return the sum of discounted rewards that the critic expects, in rewards."""
        about, arrays, _ = self._net(agent)
        if not about.get("critic"):
            raise ValueError(
                f"expected an agent with a critic that sees what {agent} sees, got none in this "
                "file: it is of MAPPO, whose critic sees the whole game, or older than values; "
                "train by IPPO, or export the run again"
            )
        x = self._critic_features(agent, _without_mask(observation)[0])
        if about["gru_size"]:
            x = _gru(x, self._memory.get(agent, (None, None))[1], _under(arrays, "critic/"))
        value = _dense(x, arrays, "critic/Dense_0")[..., 0]
        return value * arrays["value/size"] + arrays["value/zero"]

    def _net(self, agent):
        """Return what an agent acts with."""
        if agent not in self._nets:
            raise ValueError(f"expected one of the agents {self.agents}, got {agent!r}")
        return self._nets[agent]

    def _decide(self, agent, observation, mask):
        """Return what ``_net`` does, the outputs of the network, and memory afterwards."""
        about, arrays, index = self._net(agent)
        observation, own_mask = _without_mask(observation)
        mask = own_mask if mask is None else mask
        x, memory = _features(agent, about, arrays, index, observation), None
        if about["gru_size"]:
            past, past_critic = self._memory.get(agent, (None, None))
            x = _gru(x, past, arrays)
            memory = x, None
            if about.get("critic"):
                seen = self._critic_features(agent, observation)
                memory = x, _gru(seen, past_critic, _under(arrays, "critic/"))
        out = _dense(x, arrays, "Dense_0")
        if about["masked"] or mask is not None:
            out = _masked(agent, about["action_space"], arrays, out, mask)
        return about, arrays, out, memory

    def _critic_features(self, agent, observation):
        """Return what the critic sees, before memory and its last layer."""
        about, arrays, index = self._nets[agent]
        if about["critic"] == "own":
            moments = {k: v for k, v in arrays.items() if k.startswith("moments")}
            arrays = {**_under(arrays, "critic/"), **moments}
        return _features(agent, about, arrays, index, observation)


def _without_mask(observation):
    """Return what networks see of an observation, and the mask in it or None."""
    if not isinstance(observation, dict) or "action_mask" not in observation:
        return observation, None
    rest = {k: v for k, v in observation.items() if k != "action_mask"}
    seen = rest["observation"] if list(rest) == ["observation"] else rest
    return seen, observation["action_mask"]


def _under(arrays, prefix):
    """Return the arrays whose names begin so, without that."""
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def _features(agent, about, arrays, index, observation):
    """Encode an observation, and apply the hidden layers."""
    try:
        x = _encode(about["space"], observation, arrays, "moments", [0])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{agent} expected {about['space']}; {error!r}") from None
    if about["agent_id"]:
        one_hot = np.eye(about["n_agents"], dtype=np.float32)[index]
        x = np.concatenate([x, np.broadcast_to(one_hot, (*x.shape[:-1], len(one_hot)))], -1)
    for i in range(about["n_layers"]):
        x = _dense(x, arrays, f"MLP_0/Dense_{i}")
        x = np.tanh(x) if about["activation"] == "tanh" else np.maximum(x, 0)
    return x


def _masked(agent, space, arrays, out, mask):
    """Return the outputs of the network, very low where a mask forbids the choice."""
    array, covered = np.asarray(mask), np.ones(out.shape[-1], bool)
    if space["type"] in ("Dict", "Tuple"):
        covered = _kinds(space, arrays, "bound") == "c"
    shape = (*out.shape[:-1], int(covered.sum()))
    if array.shape not in (shape, shape[-1:]):
        raise ValueError(f"{agent} expected a mask {shape}, got {mask!r}")
    allowed = np.ones(out.shape, bool)
    allowed[..., covered] = array != 0
    return np.where(allowed, out, np.float32(-1e9))


def _encode(space, x, arrays, path, n_images):
    """Turn an observation into a vector behind its leading axes; ``n_images`` counts images."""
    kind = space["type"]
    if kind in ("Dict", "Tuple"):
        parts = space["spaces"]
        parts = sorted(parts.items()) if kind == "Dict" else list(enumerate(parts))
        vectors = [_encode(p, x[k], arrays, f"{path}/{k}", n_images) for k, p in parts]
        return np.concatenate(vectors, axis=-1)
    x, nvec = np.asarray(x), np.array(space.get("nvec", space.get("n", 0)))
    shape = np.atleast_1d(space.get("shape", nvec.shape)).astype(int).tolist()
    lead, is_bytes = x.shape[: x.ndim - len(shape)], space.get("dtype") == "uint8"
    kinds = "fiub" if kind == "Box" and not is_bytes else "iub"
    sound = x.shape == (*lead, *shape) and x.dtype.kind in kinds and np.isfinite(x).all()
    if not sound or (x < space.get("start", -np.inf)).any():
        raise ValueError(f"expected finite {kind} [..., *{shape}], got {x.dtype} {x.shape}: {x}")
    if nvec.any():
        index = (x - space["start"]).reshape(*lead, -1)
        hot = [np.eye(n, dtype=np.float32)[index[..., i]] for i, n in enumerate(nvec.reshape(-1))]
        return np.concatenate(hot, axis=-1)
    if f"{path}/mean" in arrays:
        x = np.clip((x - arrays[f"{path}/mean"]) / arrays[f"{path}/deviation"], -10, 10)
    x = x.astype(np.float32) / np.float32(255 if is_bytes else 1)
    if is_bytes and len(shape) == 3:
        x = _convolve(x.reshape(-1, *shape), arrays, f"Encoder_0/ImageEncoder_{n_images[0]}")
        n_images[0] += 1
    return x.reshape(*lead, int(np.prod(x.shape)) // max(1, int(np.prod(lead))))


def _convolve(x, arrays, name):
    """Three convolutions for large images, two with zeros around for small ones."""
    large = min(x.shape[1:3]) >= 36
    for i, stride in enumerate((4, 2, 1) if large else (1, 2)):
        kernel, bias = arrays[f"{name}/Conv_{i}/kernel"], arrays[f"{name}/Conv_{i}/bias"]
        if not large:
            missing = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[1:3]]
            x = np.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
        windows = windows[:, ::stride, ::stride]
        x = np.maximum(np.tensordot(windows, kernel, axes=((3, 4, 5), (2, 0, 1))) + bias, 0)
    return x


def _dense(x, arrays, name):
    """Multiply and add."""
    return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]


def _gru(x, memory, arrays):
    """Return the next memory of a gated recurrent unit."""
    kernel = arrays["GRU_0/kernel"]
    if memory is None:
        memory = np.zeros((*x.shape[:-1], len(kernel)), np.float32)
    if memory.shape[:-1] != x.shape[:-1]:
        raise ValueError(f"expected games {memory.shape[:-1]} as before, got {x.shape[:-1]}; reset")
    own, past, n = _dense(x, arrays, "GRU_0/Dense_0"), memory @ kernel, 2 * len(kernel)
    reset, update = np.split((1 + np.tanh((own[..., :n] + past[..., :n]) / 2)) / 2, 2, axis=-1)
    new = np.tanh(own[..., n:] + reset * past[..., n:])
    return (1 - update) * new + update * memory


def _parts(space, path):
    """Of a Dict or Tuple, each part's key, itself, and where the bounds of its actions are."""
    parts = space["spaces"].items() if space["type"] == "Dict" else enumerate(space["spaces"])
    return [(key, part, f"{path}/{key}") for key, part in parts]


def _kinds(space, arrays, path):
    """Say what each output is: c choice that a mask covers, i integer of a Box, b bit, f mean."""
    kind = space["type"]
    if kind in ("Dict", "Tuple"):
        parts = _parts(space, path)
        return np.concatenate([_kinds(part, arrays, place) for _, part, place in parts])
    if kind in ("Discrete", "MultiDiscrete"):
        return np.full(np.sum(space.get("nvec", space.get("n"))), "c")
    if kind == "Box" and not space["dtype"].startswith("float"):
        return np.full(_sizes(arrays, path).sum(), "i")
    return np.full(int(np.prod(space["shape"])), "b" if kind == "MultiBinary" else "f")


def _scale(kinds, arrays):
    """Standard deviation of each output, 0 where it has none."""
    scale = np.zeros(len(kinds), np.float32)
    if (kinds == "f").any():
        scale[kinds == "f"] = np.exp(arrays["log_std"])
    return scale


def _sizes(arrays, path):
    """How many integers lie between the bounds of each number of a Box, as one row."""
    return (arrays[f"{path}/high"] - arrays[f"{path}/low"] + 1).reshape(-1)


def _each(space, arrays, path, function, *rows):
    """Nest ``function(space, arrays, path, *rows)`` of each array of an action and its outputs."""
    if space["type"] not in ("Dict", "Tuple"):
        return function(space, arrays, path, *rows)
    parts = _parts(space, path)
    cuts = np.cumsum([len(_kinds(part, arrays, place)) for _, part, place in parts])[:-1]
    pieces = zip(*(np.split(row, cuts, axis=-1) for row in rows), strict=True)
    chosen = {
        key: _each(part, arrays, place, function, *piece)
        for (key, part, place), piece in zip(parts, pieces, strict=True)
    }
    return chosen if space["type"] == "Dict" else tuple(chosen.values())


def _shape(space):
    """Shape of an array of an action."""
    return space["shape"] if isinstance(space["shape"], list) else [space["shape"]]


def _most_probable(space, arrays, path, out):
    """Mode of the distribution whose parameters the network returned."""
    if space["type"] == "Discrete":
        return np.argmax(out, axis=-1) + space["start"]
    if space["type"] == "MultiDiscrete":
        nvec = np.array(space["nvec"])
        parts = np.split(out, np.cumsum(nvec.reshape(-1))[:-1], axis=-1)
        index = np.stack([np.argmax(part, axis=-1) for part in parts], axis=-1)
        return index.reshape(*index.shape[:-1], *nvec.shape) + space["start"]
    shape = _shape(space)
    if space["type"] == "MultiBinary":
        return (out > 0).astype(np.int8).reshape(*out.shape[:-1], *shape)
    if not space["dtype"].startswith("float"):
        parts = np.split(out, np.cumsum(_sizes(arrays, path))[:-1], axis=-1)
        index = np.stack([np.argmax(part, axis=-1) for part in parts], axis=-1)
        index = index.reshape(*index.shape[:-1], *shape)
        return (index + arrays[f"{path}/low"]).astype(space["dtype"])
    action = out * arrays[f"{path}/half"] + arrays[f"{path}/middle"]
    action = np.clip(action, arrays[f"{path}/low"], arrays[f"{path}/high"])
    return action.astype(np.float32).reshape(*out.shape[:-1], *shape)


def _probable(space, arrays, path, out, scale):
    """Probabilities of one array of an action; of a Box of floats mean and standard deviation."""
    if space["type"] == "Discrete":
        return _softmax(out)
    if space["type"] == "MultiBinary":
        return ((1 + np.tanh(out / 2)) / 2).reshape(*out.shape[:-1], *_shape(space))
    if space["type"] == "Box" and space["dtype"].startswith("float"):
        half, shape = arrays[f"{path}/half"], (*out.shape[:-1], *_shape(space))
        mean = out * half + arrays[f"{path}/middle"]
        return {"mean": mean.reshape(shape), "deviation": (scale * half).reshape(shape)}
    sizes = np.reshape(space["nvec"], -1) if "nvec" in space else _sizes(arrays, path)
    return tuple(_softmax(part) for part in np.split(out, np.cumsum(sizes)[:-1], axis=-1))


def _softmax(logits):
    """Probabilities of choices."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
