"""Who imports whom, read from the source; and what pure modules must not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVELS = {
    0: ["types", "config", "checks", "keys", "errors", "terminal", "signals", "locks", "outputs"],
    1: [
        "ops",
        "networks",
        "moments",
        "distributions",
        "groups",
        "stacking",
        "regroup",
        "spaces",
        "buffer",
        "runs",
        "manifest",
        "listing",
        "sharding",
        "hardware",
        "bundles",
    ],
    2: ["loops.update"],
    3: ["algos"],
    4: ["player", "checkpoint", "logger", "vector", "video", "captions", "memory"],
    5: [
        "loops.metrics",
        "loops.finals",
        "loops.train",
        "loops.compiled",
        "loops.chunks",
        "loops.waiting",
        "loops.once",
        "keeping",
    ],
    6: ["running"],
    7: ["agent"],
    8: ["evaluation", "bench", "many"],
    9: ["seats"],
    10: ["options", "commands", "cli", "__main__"],
}
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}
PURE = [
    "ops",
    "networks",
    "distributions",
    "groups",
    "stacking",
    "buffer",
    "keys",
    "moments",
    "regroup",
    "bundles",
]
PURE += ["algos.learner", "algos.ppo", "algos.rollout"]
PURE += ["loops.update", "loops.compiled", "loops.metrics"]
# modules that load a heavy dependency inside functions, where it is used
HOMES = {
    "orbax": {"kitae_marl.runs.store.checkpoint"},
    "tensorboardX": {"kitae_marl.runs.logger"},
    "rich": {"kitae_marl.runs.terminal"},
    "tyro": {"kitae_marl.cli.main", "kitae_marl.cli.options.fields"},
    "imageio": {"kitae_marl.evaluation.films"},
    "PIL": {"kitae_marl.evaluation.captions", "kitae_marl.evaluation.films"},
    "matplotlib": {"kitae_marl.evaluation.plots"},
    "flax": {"kitae_marl.algos.nets.networks"},
    "optax": {
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
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(module: str, *, inside_functions: bool) -> set[str]:
    """Names a module imports, ``from a import b`` as ``a.b``; types-only imports left out."""
    found: set[str] = set()
    todo: list[ast.AST] = [tree(module)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif only_for_types(node):
            todo += node.orelse
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return found


def level(module: str) -> int | None:
    """Level of a module of kitae_marl, by its longest listed prefix."""
    parts = module.split(".")[1:]
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in LEVEL_OF:
            return LEVEL_OF[".".join(parts[:n])]
    return None


def own_modules(names: set[str]) -> set[str]:
    """The modules among imported names, ``package.module.function`` cut to the module."""
    cut = set()
    for name in names:
        while name and name not in sources():
            name = name.rpartition(".")[0]
        cut.add(name)
    return cut - {""}


MARL = sorted(name for name in sources() if name.startswith("kitae_marl."))
ENVS = sorted(name for name in sources() if name.startswith("kitae_envs"))


@pytest.mark.parametrize("module", [m for m in MARL if m not in ("kitae_marl.loops",)])
def test_every_module_has_a_level_and_imports_only_downwards(module):
    own = level(module)
    assert own is not None, f"give {module} a level"
    for other in own_modules(imports(module, inside_functions=True)):
        if other.startswith("kitae_marl.") and other != "kitae_marl.loops":
            theirs = level(other)
            same_part = module.split(".")[1] == other.split(".")[1]
            assert theirs is not None, f"give {other} a level"
            assert theirs < own or (theirs == own and (same_part or own in (0, 1, max(LEVELS)))), (
                f"{module} (level {own}) imports {other} (level {theirs})"
            )


def test_modules_of_one_level_import_no_circles():
    graph = {m: own_modules(imports(m, inside_functions=False)) for m in [*MARL, *ENVS]}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path, module])}"
        if module in done:
            return
        for other in graph.get(module, set()) - {module}:
            visit(other, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", ENVS)
def test_the_games_never_import_the_trainer(module):
    assert not [n for n in imports(module, inside_functions=True) if n.startswith("kitae_marl")]


LIGHT = [m for m in sources() if m == "kitae_marl" or m.startswith("kitae_marl.vector")]
JAX = {"jax", "flax", "optax"}
ON_USE = {
    "kitae_marl.vector.adapters.compiled"
}  # steps compiled games: no worker process imports it


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_vectors_and_the_package_itself_import_no_jax(module):
    everywhere = module not in ON_USE
    heavy = {name.split(".")[0] for name in imports(module, inside_functions=everywhere)} & JAX
    assert not heavy


@pytest.mark.parametrize("dependency", HOMES)
def test_a_heavy_dependency_has_one_home(dependency):
    users = {
        module
        for module in MARL
        if dependency in {n.split(".")[0] for n in imports(module, inside_functions=True)}
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
    "kitae_marl.runs.store.folders",
    "kitae_marl.config.run",
    "kitae_marl.data.space_json",
]


@pytest.mark.parametrize("module", [*LOADERS, "kitae_marl.runs.agent", "kitae_marl.runs.logger"])
def test_what_reads_a_run_folder_holds_no_pickle(module):
    names = {name.split(".")[0] for name in imports(module, inside_functions=True)}
    assert not names & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "yaml", "importlib"}
    assert "allow_pickle" not in sources()[module].read_text(encoding="utf-8")


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
