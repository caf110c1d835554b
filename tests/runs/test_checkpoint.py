"""Checkpoints: there and back, damage of every kind, and other configurations."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from kitae_marl.config.counts import read_keep
from kitae_marl.errors import (
    CheckpointCorruptError,
    CheckpointIncompatibleError,
    CheckpointWriteError,
    NoCheckpointError,
)
from kitae_marl.runs.store.best import Best
from kitae_marl.runs.store.checkpoint import KEEP, RunCheckpointer, RunState, describe_leaves
from kitae_marl.types import TrainState

# tensorstore answers an event loop of Orbax that has given up on a damaged file
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_state(step: int, *, width: int = 3, game: Any = ()) -> RunState:
    """A small RunState whose numbers depend on the step."""
    rng = np.random.default_rng(step)
    params = {
        "actor": {"kernel": rng.normal(size=(2, width)).astype(np.float32)},
        "critic": {"bias": rng.normal(size=width).astype(np.float32)},
    }
    train_state = TrainState(params, (np.int32(step),), np.int32(step // 8))
    root = np.array([0, step], np.uint32)
    return RunState({"g": train_state}, root, np.asarray(step, np.int64), game)


def checkpoints(folder: Path, save_every: int = 1, num_envs: int = 1) -> RunCheckpointer:
    return RunCheckpointer(folder, save_every=save_every, num_envs=num_envs)


def same(left: RunState, right: RunState) -> bool:
    return describe_leaves(left) == describe_leaves(right)


def write(folder: Path, *steps: int) -> RunCheckpointer:
    keeper = checkpoints(folder)
    for step in steps:
        keeper.write(make_state(step))
    return keeper


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """A folder with the checkpoints 8 and 16, to be copied."""
    folder = tmp_path_factory.mktemp("pair") / "checkpoints"
    write(folder, 8, 16)
    return folder


@pytest.fixture
def copy(pair, tmp_path) -> Path:
    return Path(shutil.copytree(pair, tmp_path / "checkpoints"))


class TestRoundTrip:
    def test_every_leaf_comes_back(self, pair):
        for step in (8, 16):
            restored = checkpoints(pair).restore(make_state(0), step)
            assert same(restored, make_state(step))
            assert isinstance(restored.state["g"], TrainState)
        assert same(checkpoints(pair).restore(make_state(0)), make_state(16))

    def test_arrays_of_the_device_can_be_saved(self, tmp_path):
        on_device = jax.tree.map(jax.numpy.asarray, make_state(8))._replace(
            step=np.asarray(8, np.int64)
        )
        keeper = checkpoints(tmp_path)
        keeper.write(on_device)
        assert same(keeper.restore(on_device), make_state(8))

    def test_games_come_back_where_they_are_asked_for(self, tmp_path):
        game = {"x": np.arange(6.0).reshape(2, 3), "empty": np.zeros((2, 0))}
        keeper = checkpoints(tmp_path)
        keeper.write(make_state(8, game=game))
        assert keeper.restore(make_state(0)).game == ()
        template = {"x": np.zeros((2, 3)), "empty": np.zeros((2, 0))}
        restored = keeper.restore(make_state(0, game=template)).game
        assert describe_leaves(restored) == describe_leaves(game)

    def test_games_that_were_not_saved_are_not_made_up(self, copy):
        with pytest.raises(CheckpointIncompatibleError, match="holds no games"):
            checkpoints(copy).restore(make_state(0, game={"x": np.zeros(2)}))

    def test_a_relative_folder_is_fine(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        keeper = write(Path("runs/x/checkpoints"), 8)
        monkeypatch.chdir("/")
        assert same(keeper.restore(make_state(0)), make_state(8))
        assert (tmp_path / "runs/x/checkpoints/step_8").is_dir()

    def test_only_arrays_and_json_are_stored(self, pair):
        for path in files(pair):
            assert b"cpickle" not in path.read_bytes().lower()
            assert path.suffix not in (".pkl", ".pickle", ".npy", ".npz")

    def test_loading_runs_no_code_of_the_folder(self, copy):
        events = []
        armed = True

        def hook(event: str, arguments: Any) -> None:
            if armed and event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
                events.append((event, arguments))

        sys.addaudithook(hook)
        checkpoints(copy).restore(make_state(0))
        armed = False
        assert events == []


class TestKeeping:
    def test_the_newest_are_kept(self, tmp_path):
        keeper = write(tmp_path, *range(1, KEEP + 3))
        assert keeper.steps() == list(range(3, KEEP + 3))
        assert keeper.latest() == KEEP + 2

    def test_saving_at_intervals(self, tmp_path):
        keeper = checkpoints(tmp_path, save_every=20, num_envs=2)

        def save(step: int) -> bool:
            return keeper.save(step, SimpleNamespace(run_state=lambda: make_state(step)))

        assert [step for step in range(4, 41, 4) if save(step)] == [12, 24, 36]
        again = checkpoints(tmp_path, save_every=20, num_envs=2)
        later = SimpleNamespace(run_state=lambda: make_state(44))
        assert not again.save(44, later)  # 36 is on the disk
        assert again.save(46, later)

    def test_writing_a_step_twice_keeps_the_first(self, copy):
        before = {path: path.stat().st_mtime_ns for path in files(copy)}
        assert checkpoints(copy).write(make_state(16)) == copy.resolve() / "step_16"
        assert before == {path: path.stat().st_mtime_ns for path in files(copy)}

    def test_a_full_disk_is_a_named_error_and_leaves_the_old_ones(self, copy, monkeypatch):
        import orbax.checkpoint as ocp

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ocp.Checkpointer, "save", refuse)
        with pytest.raises(
            CheckpointWriteError, match=r"step 24 .*No space left.*bytes needed: \d+, free: \d+"
        ) as caught:
            checkpoints(copy).write(make_state(24))
        assert isinstance(caught.value, OSError)
        monkeypatch.undo()
        assert same(checkpoints(copy).restore(make_state(0)), make_state(16))


def flipped(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def restore_noting(folder: Path) -> tuple[RunState, list[str]]:
    """Restore the newest readable checkpoint; also return the warnings."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restored = checkpoints(folder).restore(make_state(0))
    return restored, [str(w.message) for w in caught if "next older" in str(w.message)]


DAMAGE = {
    "a missing manifest": lambda path: shutil.rmtree(path / "manifest"),
    "an empty manifest folder": lambda path: [p.unlink() for p in files(path / "manifest")],
    "no state": lambda path: shutil.rmtree(path / "state"),
    "an empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
    "half of every file": lambda path: [os.truncate(p, p.stat().st_size // 2) for p in files(path)],
    "empty files": lambda path: [os.truncate(p, 0) for p in files(path)],
    "another kind of manifest": lambda path: [
        p.write_text("[1]") for p in files(path / "manifest")
    ],
    "a manifest of nothing": lambda path: [p.write_text("{}") for p in files(path / "manifest")],
    "a temporary name": lambda path: path.rename(f"{path}.orbax-checkpoint-tmp-1"),
}


class TestOldNames:
    """Folders that are named by joint steps alone, as those of the first versions."""

    @pytest.fixture
    def old(self, copy) -> Path:
        """The joint steps 8 and 16 of two environments, as old folders."""
        for step in (8, 16):
            (copy / f"step_{step}").rename(copy / str(step))
        return copy

    @staticmethod
    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_they_are_named_and_found_by_environment_steps(self, old):
        keeper = checkpoints(old, num_envs=2)
        assert keeper.steps() == [16, 32]
        assert keeper.latest() == 32
        assert keeper.latest_path() == str(old.resolve() / "16")
        assert same(keeper.restore(make_state(0), 16), make_state(8))
        assert same(keeper.restore(make_state(0)), make_state(16))
        with pytest.raises(NoCheckpointError, match=r"step 8 in .*; there are \[16, 32\]"):
            keeper.restore(make_state(0), 8)

    def test_they_are_removed_before_newer_ones(self, old):
        keeper = checkpoints(old, num_envs=2)
        for step, left in {
            24: ["16", "8", "step_48"],
            32: ["16", "step_48", "step_64"],
            40: ["step_48", "step_64", "step_80"],
        }.items():
            assert keeper.write(make_state(step)).name == f"step_{2 * step}"
            assert self.names(old) == left

    def test_later_ones_are_removed_where_the_run_went_back(self, old):
        checkpoints(old, num_envs=2).write(make_state(12))
        assert self.names(old) == ["8", "step_24"]

    def test_saves_are_counted_from_them(self, old):
        keeper = checkpoints(old, save_every=20, num_envs=2)
        assert not keeper.save(24, SimpleNamespace(run_state=lambda: make_state(24)))
        assert keeper.save(26, SimpleNamespace(run_state=lambda: make_state(26)))

    def test_one_that_holds_the_same_is_kept(self, old):
        assert checkpoints(old, num_envs=2).write(make_state(16)) == old.resolve() / "16"
        assert self.names(old) == ["16", "8"]

    def test_a_damaged_one_gives_way(self, old):
        for path in files(old / "16" / "state"):
            os.truncate(path, 0)
        keeper = checkpoints(old, num_envs=2)
        assert keeper.write(make_state(16)) == old.resolve() / "step_32"
        assert self.names(old) == ["8", "step_32"]
        assert same(keeper.restore(make_state(0)), make_state(16))

    def test_of_two_of_one_step_the_new_name_wins(self, old):
        shutil.copytree(old / "16", old / "step_32")
        for path in files(old / "16"):
            os.truncate(path, 0)
        keeper = checkpoints(old, num_envs=2)
        assert keeper.steps() == [16, 32]
        assert keeper.latest_path() == str(old.resolve() / "step_32")
        assert same(keeper.restore(make_state(0), 32), make_state(16))
        keeper.write(make_state(24))
        assert self.names(old) == ["8", "step_32", "step_48"]

    @pytest.mark.parametrize("name", ["step_", "step_08", "08", "-8", "step_-8", "8.0", "x", "²"])
    def test_other_names_are_none_of_ours(self, old, name):
        (old / "16").rename(old / name)
        assert checkpoints(old, num_envs=2).steps() == [16]


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_the_next_older_one_is_used(self, copy, damage):
        damage(copy / "step_16")
        restored, warned = restore_noting(copy)
        assert same(restored, make_state(8))
        assert all(str(copy.resolve() / "step_16") in text for text in warned)

    def test_a_damaged_one_that_is_named_is_an_error(self, copy):
        for path in files(copy / "step_16" / "state"):
            os.truncate(path, 0)
        with pytest.raises(CheckpointCorruptError, match="step_16") as caught:
            checkpoints(copy).restore(make_state(0), 16)
        assert caught.value.file == "state"
        assert caught.value.reason

    def test_a_flip_in_the_description_is_damage_not_another_configuration(self, copy):
        (path,) = [p for p in files(copy / "step_16" / "manifest") if b"float32" in p.read_bytes()]
        path.write_bytes(path.read_bytes().replace(b"float32", b"float16"))
        restored, warned = restore_noting(copy)
        assert same(restored, make_state(8))
        assert len(warned) == 1

    def test_values_exchanged_for_others_are_not_taken(self, copy):
        shutil.rmtree(copy / "step_16" / "state")
        shutil.copytree(copy / "step_8" / "state", copy / "step_16" / "state")
        with pytest.raises(CheckpointCorruptError, match="not those that were saved"):
            checkpoints(copy).restore(make_state(0), 16)

    def test_all_damaged_is_an_error(self, copy):
        for path in files(copy):
            os.truncate(path, 0)
        with (
            pytest.warns(UserWarning, match="next older"),
            pytest.raises(NoCheckpointError, match="no readable checkpoint"),
        ):
            checkpoints(copy).restore(make_state(0))

    def test_none_is_an_error(self, tmp_path):
        assert checkpoints(tmp_path / "nowhere").latest() is None
        for step in (None, 8):
            with pytest.raises(NoCheckpointError):
                checkpoints(tmp_path / "nowhere").restore(make_state(0), step)

    def test_a_damaged_one_is_written_anew_when_its_step_comes_again(self, copy):
        for path in files(copy / "step_16" / "state"):
            os.truncate(path, 0)
        keeper = checkpoints(copy)
        keeper.write(make_state(16))
        assert same(keeper.restore(make_state(0), 16), make_state(16))

    def test_an_empty_folder_does_not_stand_for_a_checkpoint(self, copy):
        (copy / "step_24").mkdir()
        keeper = checkpoints(copy)
        keeper.write(make_state(24))
        assert same(keeper.restore(make_state(0)), make_state(24))

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_stands_in_the_place_of_a_checkpoint_gives_way(self, copy, kind):
        if kind == "file":
            (copy / "step_24").write_text("no checkpoint")
        else:
            (copy / "step_24").symlink_to(copy / "nowhere")
        keeper = checkpoints(copy)
        keeper.write(make_state(24))
        assert same(keeper.restore(make_state(0)), make_state(24))

    @pytest.mark.parametrize("step", ["newest", True, 1.5, [], b"best", float("nan")])
    def test_what_is_no_step_is_named(self, copy, step):
        with pytest.raises(ValueError, match="expected an environment step or 'best', got"):
            checkpoints(copy).restore(make_state(0), step)
        assert checkpoints(copy).step_of(np.int64(16)) == checkpoints(copy).step_of(16.0) == 16

    def test_empty_or_half_written_newest_ones_are_passed_over_with_a_word(self, copy, pair):
        (copy / "step_24").mkdir()
        shutil.copytree(pair / "step_16" / "state", copy / "step_32" / "state")
        with pytest.warns(UserWarning, match="step_24, step_32 are empty or half-written; the"):
            found = checkpoints(copy).restore(make_state(0))
        assert same(found, make_state(16))
        assert (copy / "step_24").is_dir()
        assert (copy / "step_32" / "state").is_dir()

    def test_an_empty_one_alone_is_named_in_the_error(self, tmp_path):
        (tmp_path / "step_24").mkdir()
        with pytest.raises(NoCheckpointError, match="step_24 is empty or half-written"):
            checkpoints(tmp_path).restore(make_state(0))

    def test_damaged_newer_ones_never_cost_the_ones_that_are_written(self, copy):
        for step in (40, 48, 56):
            shutil.copytree(copy / "step_16", copy / f"step_{step}")
            for path in files(copy / f"step_{step}" / "state"):
                os.truncate(path, 0)
        keeper = checkpoints(copy)
        agent = SimpleNamespace(run_state=lambda: make_state(24))
        assert keeper.save(24, agent)  # not put off until the step of the damaged ones
        assert same(restore_noting(copy)[0], make_state(24))


def flip_everywhere(folder: Path, every: int, offset: int) -> int:
    """Flip single bits of the newest checkpoint; what loads must be one of the saved states."""
    tries = 0
    for path in files(folder / "step_16"):
        whole = path.read_bytes()
        for position in range(offset % max(min(every, len(whole)), 1), len(whole), every):
            flipped(path, position)
            restored, warned = restore_noting(folder)
            path.write_bytes(whole)
            expected = make_state(8 if warned else 16)
            assert same(restored, expected), f"{path} byte {position}"
            tries += 1
    return tries


@pytest.mark.parametrize("offset", [0, 50])
def test_flipped_bits_never_load_wrong_values(copy, offset):
    assert flip_everywhere(copy, every=97, offset=offset) > 20


class TestIncompatible:
    def test_other_shapes_are_listed(self, copy):
        with pytest.raises(CheckpointIncompatibleError) as caught:
            checkpoints(copy).restore(make_state(0, width=4))
        text = str(caught.value)
        assert "kernel']: expected float32[2, 4], got float32[2, 3]" in text
        assert "bias']: expected float32[4], got float32[3]" in text
        assert "belongs to another configuration" in text

    def test_missing_and_additional_leaves_are_listed(self, copy):
        state = make_state(0)
        other = state._replace(state={"h": state.state["g"]})
        with pytest.raises(CheckpointIncompatibleError) as caught:
            checkpoints(copy).restore(other)
        assert "got nothing" in str(caught.value)
        assert "not expected" in str(caught.value)

    def test_other_dtypes_are_refused(self, copy):
        wide = jax.tree.map(
            lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, make_state(0)
        )
        with pytest.raises(CheckpointIncompatibleError, match="expected float64"):
            checkpoints(copy).restore(wide)


class Saved:
    """An agent at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def run_state(self) -> RunState:
        return make_state(self.step)


class TestWhichStay:
    @pytest.mark.parametrize(
        ("keep", "kept"), [("all", [1, 2, 3, 4, 5, 6]), (2, [5, 6]), ("every:2", [2, 4, 5, 6])]
    )
    def test_as_many_as_were_asked_for(self, tmp_path, keep, kept):
        keeper = RunCheckpointer(tmp_path, save_every=1, num_envs=1, keep=read_keep(keep))
        for step in range(1, 7):
            keeper.write(make_state(step))
        assert keeper.steps() == kept

    def test_none_of_the_multiples_is_left_out(self, tmp_path):
        """Saves come where updates end; one of the best comes between them."""
        keeper = RunCheckpointer(tmp_path, save_every=10, num_envs=1, keep=read_keep("every:10"))
        keeper.save_best(4, Saved(4), "score", 1.0)
        saved = [step for step in (4, 9, 14, 18, 23, 29, 31) if keeper.save(step, Saved(step))]
        assert saved == [14, 23, 31]
        assert keeper.steps() == [4, 14, 23, 31]

    def test_the_best_stays_until_another_is_as_good(self, tmp_path):
        keeper = RunCheckpointer(tmp_path, save_every=1, num_envs=2, keep=read_keep(1))
        with pytest.raises(NoCheckpointError, match="--eval-every"):
            keeper.step_of("best")
        values = {1: 0.0, 2: 3.0, 3: 2.0, 4: 1.0}
        saved = [keeper.save_best(k, Saved(k), "return/mean", x) for k, x in values.items()]
        keeper.write(make_state(5))
        assert (saved, keeper.steps(), keeper.step_of("best")) == ([1, 1, 0, 0], [4, 10], 4)
        assert same(keeper.restore(make_state(0), "best"), make_state(2))
        assert keeper.save_best(6, Saved(6), "return/mean", 3.0)
        assert (keeper.steps(), keeper.best()) == ([12], Best(12, "return/mean", 3.0))

    def test_a_run_that_goes_back_behind_its_best_has_none(self, tmp_path):
        keeper = write(tmp_path, 1)
        keeper.save_best(3, Saved(3), "score", 1.0)
        keeper.write(make_state(2))
        assert (keeper.steps(), keeper.best()) == ([1, 2], None)
        assert keeper.save_best(3, Saved(3), "score", 0.5)

    def test_the_best_is_not_sought_among_what_was_gone_back_behind(self, tmp_path):
        keeper = RunCheckpointer(tmp_path, save_every=1, num_envs=1)
        keeper.save_best(3, Saved(3), "score", 1.0)
        assert keeper.save_best(2, Saved(2), "score", 0.5)
        assert keeper.best() == Best(2, "score", 0.5)

    HUGE = f'{{"env_step": 1, "metric": "score", "value": {10**400}}}'

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"env_step": 1, "metric": 2, "value": 3}', HUGE]
    )
    def test_a_damaged_note_of_the_best_is_none(self, tmp_path, text):
        keeper = write(tmp_path, 1)
        (tmp_path / "best.json").write_text(text)
        assert keeper.best() is None
        assert keeper.save_best(2, Saved(2), "score", -1.0)


class Older(NamedTuple):
    """A TrainState as earlier versions had it."""

    params: Any
    opt_state: Any
    n_updates: Any
    critic_carry: Any = ()
    moments: Any = ()


def test_what_an_earlier_version_has_written_is_read(tmp_path):
    state = make_state(16)
    older = state._replace(state={"g": Older(*state.state["g"][:5])})
    checkpoints(tmp_path).write(older)
    found = checkpoints(tmp_path).restore(make_state(0))
    assert describe_leaves(found) == describe_leaves(state)
    assert isinstance(found.state["g"], TrainState)
    assert found.state["g"].actors == ()
