"""Files that commands write."""

import os
from contextlib import suppress

import pytest
from without_posix import make_msvcrt

from kitae_marl.errors import ConfigError, RunLockedError
from kitae_marl.runs.store import files
from kitae_marl.runs.store.files import (
    holder,
    locked,
    remove_unfinished,
    replacing,
    require_folder,
)
from kitae_marl.runs.store.folders import require_free
from kitae_marl.runs.store.listing import list_runs


@pytest.fixture
def mask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_new_file_has_the_permissions_of_any_other(tmp_path, mask):
    out = tmp_path / "film.gif"
    with replacing(out) as name:
        name.write_bytes(b"new")
    assert out.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["film.gif"]


def test_a_file_that_is_replaced_keeps_its_own(tmp_path, mask):
    out = tmp_path / "film.gif"
    out.write_bytes(b"old")
    out.chmod(0o604)
    with replacing(out) as name:
        name.write_bytes(b"new")
    assert out.read_bytes() == b"new"
    assert out.stat().st_mode & 0o777 == 0o604


def test_after_an_error_the_file_is_as_it_was(tmp_path):
    out = tmp_path / "film.gif"
    out.write_bytes(b"old")
    with pytest.raises(IsADirectoryError), replacing(out) as name:
        name.write_bytes(tmp_path.read_bytes())
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["film.gif"]


def test_a_process_that_ends_at_once_removes_what_it_was_writing(tmp_path):
    with suppress(FileNotFoundError), replacing(tmp_path / "film.gif"):
        assert len(os.listdir(tmp_path)) == 1
        remove_unfinished()
        remove_unfinished()
    assert os.listdir(tmp_path) == []


def test_a_signal_between_the_file_and_its_use_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C may come when the file has just been made, before the block has begun."""

    def close(handle):
        close_really(handle)
        assert len(os.listdir(tmp_path)) == 1
        raise KeyboardInterrupt

    close_really = os.close
    monkeypatch.setattr(os, "close", close)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "film.gif"):
        pass
    assert os.listdir(tmp_path) == []


class TestFolders:
    def test_one_that_can_be_made(self, tmp_path):
        require_folder(tmp_path)
        require_folder(tmp_path / "a" / "b")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("below", ["", "run", "a/run"])
    def test_a_file_in_its_place(self, tmp_path, below):
        (tmp_path / "runs").touch()
        with pytest.raises(ValueError, match="expected a folder, got"):
            require_folder(tmp_path / "runs" / below)
        with pytest.raises((ValueError, FileExistsError), match="runs"):
            require_free(tmp_path / "runs" / below, overwrite=True)
        with pytest.raises(ConfigError, match="runs_dir: expected a folder, got the file"):
            list_runs(tmp_path / "runs")

    @pytest.mark.parametrize("below", ["", "run"])
    def test_one_that_may_not_be_written(self, tmp_path, monkeypatch, below):
        """Whoever runs the tests may write everywhere, perhaps."""
        monkeypatch.setattr(os, "access", lambda path, mode: os.stat(path).st_mode & 0o222 != 0)
        (tmp_path / "runs").mkdir(0o555)
        with pytest.raises(ValueError, match=r"that may be written, got .*runs; choose another"):
            require_free(tmp_path / "runs" / below)


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_a_folder_is_locked_by_one_at_a_time(tmp_path, monkeypatch, system):
    if system == "windows":
        monkeypatch.setattr(files, "msvcrt", make_msvcrt(), raising=False)
        monkeypatch.setattr(files, "fcntl", None)
    assert holder(tmp_path) == ""
    with locked(tmp_path):
        assert holder(tmp_path).startswith(f"process {os.getpid()} on host ")
        with pytest.raises(RunLockedError, match=f"in use by process {os.getpid()} on host"):
            locked(tmp_path).__enter__()
    assert os.listdir(tmp_path) == []
    (tmp_path / files.LOCK).write_text("process 1 on host x")  # its holder was killed
    assert holder(tmp_path) == ""
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []
