"""Who imports whom, read from the source; and what pure modules must not hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import kitae_marl
from kitae_marl.config import PPOConfig  # noqa: F401 - declares the families
from kitae_marl.config.learner import DECLARED

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    "errors",
    "config",
    "types",
    "data",
    "vector.protocol",
    "vector.options",
    "vector.logs",
    "vector.stepping",
    "vector.lean",
    "vector.ids",
    "vector.adapters",
    "vector.workers",
    "vector.make",
    "vector.catalogue",
    "vector",
    "loops",
    "algos.ops",
    "algos.nets",
    "algos.ppo",
    "algos.alphazero",
    "algos",
    "players.single",
    "players.player",
    "players.policies",
    "players.scripted",
    "players",
    "runs.store",
    "runs",
    "evaluation",
    "selfplay",
    "training",
    "cli.options",
    "cli.bench",
    "cli.commands",
    "cli",
    "__main__",
]
"""The rooms from the ground up: a module imports from its own place and from those before it."""
PURE = [
    "algos.alphazero.algorithm",
    "algos.alphazero.search",
    "algos.alphazero.targets",
    "algos.nets.distributions",
    "algos.nets.networks",
    "algos.nets.normalization",
    "algos.nets.residual",
    "algos.ops",
    "algos.ppo.algorithm",
    "algos.ppo.learner",
    "algos.ppo.targets",
    "algos.ppo.units",
    "data.groups",
    "data.keys",
    "data.lifting",
    "data.masks",
    "data.replay",
    "data.rollout",
    "data.space_json",
    "data.space_kinds",
    "data.spaces",
    "data.stacking",
    "loops.compiled",
    "loops.metrics",
    "loops.update",
]
# modules that load a heavy dependency, at the top or inside functions, where it is used
HOMES = {
    "orbax": {"kitae_marl.runs.store.checkpoint"},
    "tensorboardX": {"kitae_marl.runs.board"},
    "rich": {"kitae_marl.runs.terminal"},
    "tyro": {"kitae_marl.cli.parsing", "kitae_marl.cli.options.fields"},
    "imageio": {"kitae_marl.evaluation.films"},
    "PIL": {"kitae_marl.evaluation.films"},
    "matplotlib": {"kitae_marl.evaluation.plots"},
    "flax": {"kitae_marl.algos.nets.networks", "kitae_marl.algos.nets.residual"},
    "mctx": {"kitae_marl.algos.alphazero.search"},
    "optax": {
        "kitae_marl.algos.alphazero.algorithm",
        "kitae_marl.algos.ppo.algorithm",
        "kitae_marl.algos.ppo.learner",
        "kitae_marl.loops.update",
    },
}


@cache
def sources() -> dict[str, Path]:
    """Every module of both packages, by dotted name."""
    found = {}
    for package in (ROOT / "kitae_marl", ROOT / "envs" / "kitae_envs"):
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def texts() -> dict[str, str]:
    """The source of every module."""
    return {module: path.read_text(encoding="utf-8") for module, path in sources().items()}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(texts()[module])


def imports(code: ast.AST, *, inside_functions: bool = True) -> set[str]:
    """Names that code imports, ``from a import b`` as ``a.b``: inside functions and for types too.

    Without ``inside_functions`` only those of the import itself: neither of those two.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [code]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.Lambda | ast.If):
            todo += ast.iter_child_nodes(node)
        elif isinstance(node, ast.If):
            for_types = "TYPE_CHECKING" in ast.unparse(node.test)
            todo += node.orelse if for_types else ast.iter_child_nodes(node)
    return found


def graph(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of some modules, given as source by name, import which: names cut to the module."""
    edges: dict[str, set[str]] = {}
    for module, text in modules.items():
        edges[module] = set()
        for name in imports(ast.parse(text)):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            edges[module] |= {name} - {"", module}
    return edges


def place(module: str) -> int | None:
    """Number of a module's place in ``ORDER``, by its longest prefix there."""
    parts = module.split(".")[1:]
    prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((ORDER.index(prefix) for prefix in prefixes if prefix in ORDER), None)


def arrows_upwards(modules: Mapping[str, str]) -> Iterator[str]:
    """Imports from a later place, or from what has none; the package's face is above all."""
    for module, others in graph(modules).items():
        own = place(module)
        if module.startswith("kitae_envs"):
            yield from (f"{module} -> {o}" for o in others if o.startswith("kitae_marl"))
        elif own is None and module != "kitae_marl":
            yield f"{module} has no place"
        elif module != "kitae_marl":
            for other in others:
                theirs = place(other)
                if other.startswith("kitae_marl") and (theirs is None or theirs > own):
                    yield f"{module} -> {other}"


def circles(modules: Mapping[str, str]) -> Iterator[str]:
    """Modules that lead back to themselves; every circle is told at least once."""
    edges, done = graph(modules), set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield " -> ".join([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(edges[module]):
                yield from visit(other, (*path, module))
            done.add(module)

    for module in sorted(edges):
        yield from visit(module, ())


def test_no_module_imports_from_a_room_above_its_own():
    assert not list(arrows_upwards(texts()))


def test_no_imports_go_in_circles():
    assert not list(circles(texts()))


PLANTED = {
    "at the top": ("data.keys", "from kitae_marl.data.lifting import regroup", "data.lifting",
                   "import kitae_marl.data.keys"),
    "inside a function": ("data.keys", "def f():\n    from kitae_marl.data import lifting",
                          "data.lifting", "def g():\n    import kitae_marl.data.keys"),
    "for types": ("types", "if TYPE_CHECKING:\n    from kitae_marl.errors import KitaeError",
                  "errors", "if TYPE_CHECKING:\n    import kitae_marl.types"),
    "by a package": ("evaluation", "from kitae_marl.evaluation.playing import evaluate",
                     "evaluation.playing", "from kitae_marl.evaluation import evaluate"),
    "of sub-rooms": ("vector.lean.aec", "from kitae_marl.vector.workers import pool",
                     "vector.workers.pool", "def f():\n    import kitae_marl.vector.lean.aec"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_circle_is_found(kind):
    one, there, other, back = PLANTED[kind]
    planted = {"kitae_marl": "", f"kitae_marl.{one}": there, f"kitae_marl.{other}": back}
    assert list(circles(planted))
    planted[f"kitae_marl.{other}"] = ""
    assert not list(circles(planted))


UPWARDS = {
    "room": ("data.keys", "import kitae_marl.loops.update", "loops.update"),
    "sub-room": ("vector.stepping.rows", "import kitae_marl.vector.lean.mpe", "vector.lean.mpe"),
    "within a function": ("players.player", "def f():\n    import kitae_marl.runs.agent",
                          "runs.agent"),
    "for types": ("types", "if TYPE_CHECKING:\n    import kitae_marl.runs.agent", "runs.agent"),
    "a file beside a sub-room": ("runs.store.files", "import kitae_marl.runs.agent", "runs.agent"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UPWARDS)
def test_a_planted_arrow_upwards_is_found(kind):
    lower, text, upper = UPWARDS[kind]
    planted = {"kitae_marl": "", f"kitae_marl.{lower}": text, f"kitae_marl.{upper}": ""}
    assert list(arrows_upwards(planted)) == [f"kitae_marl.{lower} -> kitae_marl.{upper}"]


def test_the_face_and_a_module_without_a_place_are_above_all():
    planted = {"kitae_marl": "", "kitae_marl.types": "from kitae_marl import __version__"}
    assert list(arrows_upwards(planted)) == ["kitae_marl.types -> kitae_marl"]
    planted = {"kitae_marl": "", "kitae_marl.attic": "", "kitae_envs": "import kitae_marl"}
    found = list(arrows_upwards(planted))
    assert found == ["kitae_marl.attic has no place", "kitae_envs -> kitae_marl"]


def test_every_place_is_there_and_the_root_is_small():
    rooms = {module.split(".", 1)[1] for module in sources() if module.startswith("kitae_marl.")}
    assert not [name for name in ORDER if name not in rooms]
    beside = ("__pycache__", "README.md", "py.typed")
    entries = [p for p in (ROOT / "kitae_marl").iterdir() if p.name not in beside]
    assert len(entries) <= 15


def test_public_names_are_told_to_type_checkers_too():
    told = imports(tree("kitae_marl")) - {"importlib", "typing.TYPE_CHECKING", "typing.Any"}
    told.discard("__future__.annotations")
    homes = {f"kitae_marl.{module}.{name}" for name, module in kitae_marl._HOMES.items()}
    assert told == homes
    for name in kitae_marl.__all__:
        assert getattr(kitae_marl, name).__name__ == name


WITHOUT_JAX = ("errors", "types", "config", "vector", "cli.options")
WITHOUT_JAX += ("data.groups", "data.stacking", "data.spaces", "data.space_kinds")
WITHOUT_JAX += ("data.space_json",)
LIGHT = [m for m in sources() if f"{m}.".startswith(tuple(f"kitae_marl.{n}." for n in WITHOUT_JAX))]
LIGHT += ["kitae_marl"]
JAX = {"jax", "flax", "optax"}
ON_USE = {
    "kitae_marl.vector.adapters.compiled"
}  # steps compiled games: no worker process imports it


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_vectors_and_the_package_itself_import_no_jax(module):
    everywhere = module not in ON_USE
    heavy = {n.split(".")[0] for n in imports(tree(module), inside_functions=everywhere)} & JAX
    assert not heavy


@pytest.mark.parametrize("dependency", HOMES)
def test_a_heavy_dependency_has_one_home(dependency):
    users = {
        module
        for module in sources()
        if module.startswith("kitae_marl.")
        and dependency in {n.split(".")[0] for n in imports(tree(module))}
    }
    assert users == HOMES[dependency]


FORBIDDEN_CALLS = {"print", "open", "input", "eval", "exec", "exit"}
FORBIDDEN_NAMES = ("time.", "np.random", "random.", "os.", "sys.", "datetime.", "warnings.")


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_have_no_side_effects(name):
    module = f"kitae_marl.{name}"
    touched = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            touched.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(FORBIDDEN_NAMES):
            touched.append(ast.unparse(node))
        if isinstance(node, ast.Global | ast.Nonlocal):
            touched.append(ast.unparse(node))
        if isinstance(node, ast.FunctionDef):
            touched += written_arguments(node)
    assert not touched


def written_arguments(function: ast.FunctionDef) -> list[str]:
    """Assignments to an attribute of an argument other than self."""
    arguments = {a.arg for a in function.args.args + function.args.kwonlyargs} - {"self"}
    found = []
    for node in ast.walk(function):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) in arguments:
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("module", sorted(sources()))
def test_no_module_prints_except_the_terminal_and_the_command_line(module):
    printing = [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write")
    ]
    if module not in ("kitae_marl.runs.terminal", "kitae_marl.cli.main"):
        assert not printing


LOADERS = [
    "kitae_marl.runs.store.checkpoint",
    "kitae_marl.runs.store.manifest",
    "kitae_marl.runs.store.contents",
    "kitae_marl.runs.store.folders",
    "kitae_marl.runs.store.metrics",
    "kitae_marl.runs.store.search",
    "kitae_marl.runs.store.sets",
    "kitae_marl.runs.store.strict_json",
    "kitae_marl.config.run",
    "kitae_marl.data.space_json",
    "kitae_marl.data.space_kinds",
]


@pytest.mark.parametrize("module", [*LOADERS, "kitae_marl.runs.agent", "kitae_marl.runs.logger"])
def test_what_reads_a_run_folder_holds_no_pickle(module):
    found = {name for name in imports(tree(module)) if not name.startswith("importlib.metadata")}
    names = {name.split(".")[0] for name in found}
    assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml", "importlib"}
    assert "allow_pickle" not in sources()[module].read_text(encoding="utf-8")


TESTS = ROOT / "tests"


def test_the_tests_stand_in_the_rooms_of_what_they_test():
    rooms = {path.name for path in (ROOT / "kitae_marl").iterdir() if path.is_dir()}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders - {"helpers", "envs"} <= rooms


def test_no_two_files_of_tests_have_one_name():
    """Each of them is a module by its bare name."""
    names = [path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names))


def test_nothing_is_imported_from_a_file_of_tests():
    """What tests share is in ``tests/helpers``."""
    found = []
    for path in TESTS.rglob("*.py"):
        names = imports(ast.parse(path.read_text(encoding="utf-8")))
        found += [f"{path.name}: {name}" for name in names if name.startswith("test_")]
    assert not found


def nested_kinds(code: ast.AST) -> list[str]:
    """Where code asks whether something is a Dict or a Tuple space."""
    asked = []
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked.append(ast.unparse(node.args[1]))
        elif isinstance(node, ast.MatchClass):
            asked.append(ast.unparse(node.cls))
    return [text for text in asked if "spaces.Dict" in text or "spaces.Tuple" in text]


def test_one_module_walks_over_spaces():
    walkers = [module for module in sources() if nested_kinds(tree(module))]
    assert walkers == ["kitae_envs.spaces"]


def test_there_is_no_drawer_for_odds_and_ends():
    odds = {"utils", "common", "helpers", "base", "misc"}
    assert not [module for module in sources() if module.rsplit(".", 1)[-1] in odds]


SCRIPTS = {
    "the package": "import kitae_marl",
    "the command line": "import kitae_marl.cli.main",
    "the protocol": "import kitae_marl.vector",
    "a worker": "import kitae_marl.vector.workers.worker",
    "vectors": "from kitae_marl import SubProcVecParallelEnv, make_vec_env",
    "config": "import kitae_marl.config.run, kitae_marl.types, kitae_marl.data.groups",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_importing_it_loads_no_jax(script):
    code = f"{script}\nimport sys\nprint(sorted({JAX!r} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def of_one_family(text: str) -> list[str]:
    """Places of a source that name the settings of one family of algorithms."""
    families = [d.settings for d in DECLARED.values() if d.settings.SECTION != "own"]
    sections = {settings.SECTION: settings for settings in families}
    classes = {settings.__name__ for settings in sections.values()}
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in sections:
            found.append(ast.unparse(node))
        if isinstance(node, ast.Name | ast.alias) and ast.unparse(node) in classes:
            found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += re.findall(rf"\b(?:{'|'.join(sections)})\.[a-z]", node.value)
    return found


MAY_NAME_A_FAMILY = ("kitae_marl.config.", "kitae_marl.algos.")


@pytest.mark.parametrize("module", [m for m in sources() if m.startswith("kitae_marl.")])
def test_no_module_names_the_settings_of_one_family(module):
    if not f"{module}.".startswith(MAY_NAME_A_FAMILY):
        assert not of_one_family(texts()[module])


@pytest.mark.parametrize(
    "text", ["x = config.ppo.n_steps", "x = PPOConfig()", "raise ValueError('lower ppo.clip')"]
)
def test_a_module_that_names_the_settings_of_one_family_is_found(text):
    assert of_one_family(text)
