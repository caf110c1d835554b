"""This file says what to do next after a training, as commands that run as they are printed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from kitae_marl.cli.options.training import Train
from kitae_marl.runs.terminal import pip_install, say


def say_where_to_look(options: Train, path: Path, *, zero_sum: bool, film: bool) -> None:
    """Tell what to do next.

    Args:
        options: what the run was trained with.
        path: its folder.
        zero_sum: whether its returns add up to zero, so that wins are what to count.
        film: whether the game says that it can draw itself.
    """
    from kitae_marl.config.wrapping import imports_wrappers
    from kitae_marl.vector.catalogue.games import install_for
    from kitae_marl.vector.ids import imports_code

    program = python_path(options) + program_as_called()
    folder = shlex.quote(str(options.runs_dir))
    where = "" if options.runs_dir == Path("runs") else f" --runs-dir {folder}"
    named = imports_code(options.env_id) or options.modules or options.allow_import
    named = named or imports_wrappers(options.wrap)
    trust = " --allow-import" if named else ""
    install = install_for(options.env_id)
    first = f"  # {install}" if install else ""  # a twin was trained on, its original is played
    against = " --against random" if zero_sum else ""
    needed = "" if find_spec("matplotlib") else f"  # {pip_install('matplotlib')}"
    say(f"the run is in {path}")
    say(f"  {program} evaluate {path.name}{where}{trust}{against}{first}")
    if film:
        say(f"  {program} watch {path.name}{where}{trust} --out {path.name}.gif{first}")
    say(f"  {program} plot {path.name}{where} --out {path.name}.png{needed}")


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


def python_path(options: Train) -> str:
    """Return the setting of ``PYTHONPATH`` without which code of the user's own is not found.

    Empty where nothing lies there that the run names, and for what is installed.
    """
    from kitae_marl.config.wrapping import imports_wrappers
    from kitae_marl.vector.ids import imports_code

    value = os.environ.get("PYTHONPATH", "")
    places = [Path(entry).resolve() for entry in value.split(os.pathsep) if entry]
    named = [options.env_id] if imports_code(options.env_id) else []
    for text in [*named, *options.modules, *imports_wrappers(options.wrap)]:
        spec = find_spec(text.partition(":")[0].partition(".")[0])
        origin = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        if origin and any(Path(origin).resolve().is_relative_to(place) for place in places):
            return f"PYTHONPATH={shlex.quote(value)} "
    return ""
