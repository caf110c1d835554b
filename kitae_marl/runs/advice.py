"""This file says what to do next after a training, as commands that run as they are printed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from kitae_marl.config.run import Config
from kitae_marl.config.wrapping import imports_wrappers
from kitae_marl.runs.terminal import pip_install, say


def say_where_to_look(
    config: Config, path: Path, runs_dir: Path, *, allow_import: bool, zero_sum: bool, film: bool
) -> None:
    """Tell what to do next.

    Args:
        config: settings of the run, or of the runs of a set.
        path: its folder.
        runs_dir: the folder that holds it, as the user calls it.
        allow_import: whether what it names as module:name was allowed to be imported.
        zero_sum: whether its returns add up to zero, so that wins are what to count.
        film: whether the game says that it can draw itself.
    """
    from kitae_marl.vector.catalogue.games import install_for
    from kitae_marl.vector.ids import imports_code

    program = python_path(config) + program_as_called()
    name, picture = shlex.quote(path.name), shlex.quote(f"{path.name}.png")
    where = "" if runs_dir == Path("runs") else f" --runs-dir {shlex.quote(str(runs_dir))}"
    named = imports_code(config.env_id) or config.modules or allow_import
    named = named or imports_wrappers(config.wrap)
    trust = " --allow-import" if named else ""
    install = install_for(config.env_id)
    first = f"  # {install}" if install else ""  # a twin was trained on, its original is played
    against = " --against random" if zero_sum else ""
    needed = "" if find_spec("matplotlib") else f"  # {pip_install('matplotlib')}"
    say(f"the run is in {path}")
    say(f"  {program} evaluate {name}{where}{trust}{against}{first}")
    if film:
        gif = shlex.quote(f"{path.name}.gif")
        say(f"  {program} watch {name}{where}{trust} --out {gif}{first}")
    say(f"  {program} plot {name}{where} --out {picture}{needed}")


def program_as_called() -> str:
    """The command as it was called, where the shell does not find it by its name alone."""
    name, called = "kitae-marl", Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "kitae_marl":  # python -m kitae_marl
        python = shutil.which("python")
        same = python is not None and os.path.abspath(python) == os.path.abspath(sys.executable)
        return f"{'python' if same else shlex.quote(sys.executable)} -m kitae_marl"
    found = shutil.which(name)
    if called.name != name or not called.exists() or (found and called.samefile(found)):
        return name
    return shlex.quote(str(called))


def python_path(config: Config) -> str:
    """Return the setting of ``PYTHONPATH`` without which code of the user's own is not found.

    Empty where nothing lies there that the run names, and for what is installed.
    """
    from kitae_marl.vector.ids import imports_code

    value = os.environ.get("PYTHONPATH", "")
    places = [Path(entry).resolve() for entry in value.split(os.pathsep) if entry]
    named = [config.env_id] if imports_code(config.env_id) else []
    for text in [*named, *config.modules, *imports_wrappers(config.wrap)]:
        name = text.partition(":")[0].partition(".")[0]
        # A script has no place where another program would find it.
        spec = None if name == "__main__" else find_spec(name)
        origin = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if origin and any(Path(origin).resolve().is_relative_to(place) for place in places):
            return f"PYTHONPATH={shlex.quote(value)} "
    return ""
