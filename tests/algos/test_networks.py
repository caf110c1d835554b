"""Encoders by space, shapes with any leading axes, first outputs, gradients that stay apart."""

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitae_marl.algos.nets.distributions import distribution_for
from kitae_marl.algos.nets.networks import Actor, Critic, Encoder
from kitae_marl.data.spaces import feature_space, leaves, zeros

pytestmark = pytest.mark.usefixtures("quickest_compilation")
spaces = gym.spaces
SPACES = {
    "box": (spaces.Box(-1, 1, (2, 3)), 6),
    "bytes": (spaces.Box(0, 255, (4,), np.uint8), 4),
    "scalar box": (spaces.Box(-1.0, 1.0, ()), 1),
    "integers": (spaces.Box(-5, 5, (2,), np.int64), 2),
    "discrete": (spaces.Discrete(5, start=2), 5),
    "multi-discrete": (spaces.MultiDiscrete([2, 3], start=[1, 0]), 5),
    "multi-discrete 2 x 2": (spaces.MultiDiscrete([[2, 3], [2, 2]]), 9),
    "multi-binary": (spaces.MultiBinary((2, 2)), 4),
    "small image": (spaces.Box(0, 255, (8, 6, 1), np.uint8), 4 * 3 * 64),
    "large image": (spaces.Box(0, 255, (84, 84, 1), np.uint8), 7 * 7 * 64),
    "dict": (spaces.Dict(b=spaces.Discrete(2), a=spaces.Box(-1, 1, (3,))), 5),
    "tuple": (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (3,))]), 5),
}


def sampled(space, *lead):
    """Samples of a space behind leading axes."""
    space.seed(0)
    rows = [space.sample() for _ in range(int(np.prod(lead)))]
    return jax.tree.map(
        lambda *xs: np.stack(xs).reshape(*lead, *np.shape(xs[0])),
        *(dict(row) if isinstance(row, dict) else row for row in rows),
    )


def shapes_of(module, space):
    """Parameters of a module as shapes alone: initialising for real takes seconds to compile."""
    return jax.eval_shape(module.init, jax.random.key(0), zeros(space, 1))


def some_params(module, space):
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.normal(size=leaf.shape, scale=0.1).astype(leaf.dtype)  # noqa: E731
    return jax.tree.map(draw, shapes_of(module, space))


@pytest.mark.parametrize(("space", "size"), SPACES.values(), ids=SPACES)
def test_encoders_take_any_leading_axes(space, size):
    encoder = Encoder(space)
    many = sampled(space, 2, 3)
    if size > 1000:  # compiling large convolutions takes seconds: only the shapes
        shape = jax.eval_shape(encoder.apply, shapes_of(encoder, space), many).shape
        assert shape == (2, 3, size)
        return
    params = some_params(encoder, space)
    out = jax.jit(encoder.apply)(params, many)
    assert out.shape == (2, 3, size)
    assert out.dtype == jnp.float32
    alone = jax.jit(encoder.apply)(params, jax.tree.map(lambda x: x[1, 2], many))
    np.testing.assert_allclose(out[1, 2], alone, atol=1e-5)


def test_encodings_by_hand():
    def encode(space, x):
        return (
            Encoder(space)
            .apply({}, jax.tree.map(jnp.asarray, x, is_leaf=lambda x: isinstance(x, list)))
            .tolist()
        )

    assert encode(spaces.Discrete(3, start=-1), [0, -1]) == [[0, 1, 0], [1, 0, 0]]
    assert encode(spaces.MultiDiscrete([2, 3], start=[1, 0]), [2, 0]) == [0, 1, 1, 0, 0]
    assert encode(spaces.Box(0, 255, (2,), np.uint8), np.uint8([255, 51])) == pytest.approx(
        [1, 0.2]
    )
    assert encode(spaces.Box(-9, 9, (2, 1)), np.float32([[3], [-4]])) == [3, -4]
    both = spaces.Dict(b=spaces.Discrete(2), a=spaces.Box(-9, 9, (1,)))
    assert encode(both, {"b": 1, "a": np.float32([7])}) == [7, 0, 1]  # in order of the keys


def test_an_image_is_scaled_to_one():
    space = spaces.Box(0, 255, (2, 2, 1), np.uint8)
    encoder = Encoder(space)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes_of(encoder, space))
    white, black = np.full((1, 2, 2, 1), 255, np.uint8), np.zeros((1, 2, 2, 1), np.uint8)
    out = jax.jit(encoder.apply)(ones, np.stack([white, black]))
    # every weight and bias is 1: 4 pixels of 1 and a bias, then 4 x 32 of those and a bias
    assert out[0].tolist() == [[4 * 32 * 5.0 + 1] * 64]
    assert out[1].tolist() == [[4 * 32 * 1.0 + 1] * 64]


def test_images_are_numbered_in_order_of_groups_and_keys():
    """Checkpoints hold the parameters by these names; channels tell the images apart."""
    image = {n: spaces.Box(0, 255, (8, 8, n), np.uint8) for n in (1, 2, 3)}
    space = spaces.Dict(
        pilot=spaces.Dict([("rear", image[1]), ("front", image[2])]),
        guard=spaces.Tuple([image[3], spaces.Discrete(2)]),
    )
    seen = {name: zeros(part, 5, 2) for name, part in space.spaces.items()}
    critic = Critic(space, (4,), "tanh", n_agents=2, by_group=True)
    params = jax.eval_shape(critic.init, jax.random.key(0), seen)["params"]
    encoders = params["Encoder_0"]
    channels = {name: part["Conv_0"]["kernel"].shape[2] for name, part in encoders.items()}
    assert channels == {"ImageEncoder_0": 3, "ImageEncoder_1": 2, "ImageEncoder_2": 1}
    width = 2 * (4 * 4 * 64 * 3 + 2) + 2  # two agents of each group side by side, and whose value
    assert params["MLP_0"]["Dense_0"]["kernel"].shape == (width, 4)


def test_what_is_an_image():
    assert leaves(spaces.Box(0, 255, (84, 84, 3), np.uint8))[0].is_image
    assert not leaves(spaces.Box(0, 255, (84, 84), np.uint8))[0].is_image
    assert not leaves(spaces.Box(0, 1, (84, 84, 3), np.float32))[0].is_image


def test_feature_space_leaves_the_mask_out():
    box, mask = spaces.Box(0, 1, (3,)), spaces.MultiBinary(2)
    assert feature_space(spaces.Dict(observation=box, action_mask=mask)) == box
    three = spaces.Dict(x=box, y=box, action_mask=mask)
    assert feature_space(three) == spaces.Dict(x=box, y=box)
    assert feature_space(spaces.Dict(x=box)) == spaces.Dict(x=box)


@pytest.mark.parametrize("space", [space for space, _ in SPACES.values()], ids=SPACES)
def test_zeros_have_the_shape_and_dtype_of_the_space(space):
    empty, sample = zeros(space, 4, 1), sampled(space, 4, 1)
    assert jax.tree.map(np.shape, empty) == jax.tree.map(np.shape, sample)
    assert jax.tree.map(lambda x: x.dtype, empty) == jax.tree.map(lambda x: x.dtype, sample)


def test_other_spaces_are_refused_with_advice():
    with pytest.raises(TypeError, match=r"expected an observation space .* wrap the environment"):
        Encoder(spaces.Text(3)).apply({}, 0)


BOX = spaces.Box(-1, 1, (3,))


def actor(action_space, hidden):
    network = Actor(BOX, distribution_for(action_space), hidden, "tanh")
    return network, jax.jit(network.init)(jax.random.key(0), zeros(BOX, 1))


def test_the_first_policy_is_nearly_uniform():
    network, params = actor(spaces.Discrete(4), (16,))
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    p = jax.nn.softmax(jax.jit(network.apply)(params, x)[0])
    np.testing.assert_allclose(p, 0.25, atol=0.02)
    assert not np.allclose(p, 0.25, atol=1e-6)


def test_a_continuous_policy_has_one_scale_per_axis_and_not_per_state():
    network, params = actor(spaces.Box(-1, 1, (2,)), ())
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    out, carry = jax.jit(network.apply)(params, x)
    assert (out.shape, carry) == ((5, 4), ())
    np.testing.assert_array_equal(out[:, 2:], -0.5)
    np.testing.assert_allclose(out[:, :2], 0.0, atol=0.1)


@pytest.mark.parametrize(
    ("hidden", "kernels"), [((16, 8), [(3, 16), (16, 8), (8, 4)]), ((), [(3, 4)])]
)
def test_hidden_layers_are_as_configured(hidden, kernels):
    network = Actor(BOX, distribution_for(spaces.Discrete(4)), hidden, "relu")
    params = shapes_of(network, BOX)
    assert sorted(x.shape for x in jax.tree.leaves(params) if x.ndim == 2) == sorted(kernels)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_critic_gives_one_value_per_row(activation):
    critic = Critic(BOX, (16,), activation)
    params = some_params(critic, BOX)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    assert jax.jit(critic.apply)(params, x)[0].shape == (4, 2)
    gradient = jax.jit(jax.grad(lambda x: critic.apply(params, x)[0][1, 0]))(x)
    others = np.delete(np.asarray(gradient).reshape(8, 3), 2, axis=0)
    assert (others == 0).all()  # no row looks at another
    assert (gradient[1, 0] != 0).any()
