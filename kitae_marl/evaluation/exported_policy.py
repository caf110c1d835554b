"""A policy trained by kitae_marl, in NumPy alone.

    policy = Policy("policy.npz")
    action = policy.act("agent_0", observation)  # the most probable action

An observation is what the agent's observation space holds, or a batch with any leading axes. A
recurrent policy remembers, agent by agent, the observations of its own decisions: call ``act`` only
when the agent is to act, and ``reset`` when an episode begins. The file is data, never executed.
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

    def act(self, agent, observation, action_mask=None):
        """Return the most probable action that a mask allows, the first where it allows none."""
        if agent not in self._nets:
            raise ValueError(f"expected one of the agents {self.agents}, got {agent!r}")
        about, arrays, index = self._nets[agent]
        if isinstance(observation, dict) and "action_mask" in observation:
            action_mask = observation["action_mask"] if action_mask is None else action_mask
            observation = {k: v for k, v in observation.items() if k != "action_mask"}
            if list(observation) == ["observation"]:
                observation = observation["observation"]
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
        if about["gru_size"]:
            x = _gru(x, self._memory.get(agent), arrays)
        out = _dense(x, arrays, "Dense_0")
        if about["masked"] or action_mask is not None:
            mask, covered = np.asarray(action_mask), np.ones(out.shape[-1], bool)
            if about["action_space"]["type"] in ("Dict", "Tuple"):
                covered = np.concatenate(_covered(about["action_space"], arrays, "bound"))
            shape = (*out.shape[:-1], int(covered.sum()))
            if mask.shape not in (shape, shape[-1:]):
                raise ValueError(f"{agent} expected a mask {shape}, got {action_mask!r}")
            allowed = np.ones(out.shape, bool)
            allowed[..., covered] = mask != 0
            out = np.where(allowed, out, np.float32(-1e9))
        if about["gru_size"]:
            self._memory[agent] = x
        return _most_probable(about["action_space"], out, arrays, "bound")


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


def _covered(space, arrays, path):
    """Of each array of an action, for each output whether a mask lies over it."""
    kind = space["type"]
    if kind in ("Dict", "Tuple"):
        parts = [_covered(part, arrays, place) for _, part, place in _parts(space, path)]
        return [covered for part in parts for covered in part]
    if kind in ("Discrete", "MultiDiscrete"):
        return [np.ones(np.sum(space.get("nvec", space.get("n"))), bool)]
    if kind == "Box" and not space["dtype"].startswith("float"):
        return [np.zeros(_sizes(arrays, path).sum(), bool)]
    return [np.zeros(int(np.prod(space["shape"])), bool)]


def _sizes(arrays, path):
    """How many integers lie between the bounds of each number of a Box, as one row."""
    return (arrays[f"{path}/high"] - arrays[f"{path}/low"] + 1).reshape(-1)


def _most_probable(space, out, arrays, path):
    """Mode of the distribution whose parameters the network returned."""
    if space["type"] in ("Dict", "Tuple"):
        parts = _parts(space, path)
        counts = [sum(map(len, _covered(part, arrays, place))) for _, part, place in parts]
        rows = zip(parts, np.split(out, np.cumsum(counts)[:-1], axis=-1), strict=True)
        chosen = {k: _most_probable(p, x, arrays, place) for (k, p, place), x in rows}
        return chosen if space["type"] == "Dict" else tuple(chosen.values())
    if space["type"] == "Discrete":
        return np.argmax(out, axis=-1) + space["start"]
    if space["type"] == "MultiDiscrete":
        nvec = np.array(space["nvec"])
        parts = np.split(out, np.cumsum(nvec.reshape(-1))[:-1], axis=-1)
        index = np.stack([np.argmax(part, axis=-1) for part in parts], axis=-1)
        return index.reshape(*index.shape[:-1], *nvec.shape) + space["start"]
    shape = space["shape"] if isinstance(space["shape"], list) else [space["shape"]]
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
