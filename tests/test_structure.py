"""The shape of the package: who may import whom, and how long a file may get."""

from __future__ import annotations

import ast
import pathlib

import pytest

import rse_tf

PACKAGE = pathlib.Path(rse_tf.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom to the top. A room imports from lower lines and from itself, never from its
# neighbours on the same line.
FLOORS = [
    {"utils"},
    {"layers", "data", "attacks"},
    {"models"},
    {"training"},
    {"evaluation", "defenses"},
    {"reporting"},
    {"__init__"},  # the library, without the command line
    {"config"},
    {"experiment"},
    {"flags"},
    {"papers"},
]
ENTRY_POINTS = {"main", "train", "evaluate", "certify", "export", "reproduce", "report"}
FLOORS += [ENTRY_POINTS, {"__main__"}]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Rooms that know less than the floors below them.
KNOWS_ONLY: dict[str, set[str]] = {
    "layers": {"utils"},
    "attacks": {"utils"},
    "data": {"utils"},
    "reporting": {"utils", "evaluation"},
}
KNOWS_ABSL = {"flags"} | ENTRY_POINTS


def imported(source: str, module: str, is_package: bool = False) -> set[str]:
    """The full names that a module imports, wherever in it the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                start = ".".join([*parts, *([start] if start else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return names


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module imports and must not; `module` is its dotted name."""
    room = module.split(".")[1] if "." in module else "__init__"
    if room not in FLOOR:
        return [f"{module} is in no known room: give {room!r} its floor"]
    found = []
    for name in sorted(imported(source, module, is_package)):
        first, *rest = name.split(".")
        if first == "absl" and room not in KNOWS_ABSL:
            found.append(f"{module} imports absl")
        if first != "rse_tf" or (rest and rest[0] == room):
            continue
        # What is no room is a name that the package itself offers.
        other = rest[0] if rest and rest[0] in FLOOR else "__init__"
        if FLOOR[other] >= FLOOR[room] or other not in KNOWS_ONLY.get(room, {other}):
            found.append(f"{module} imports {name}")
    return found


def dotted(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_point_downwards() -> None:
    for path in MODULES:
        assert violations(path.read_text(), dotted(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("rse_tf.layers.noise", "import rse_tf.models.vgg", "rse_tf.models.vgg"),
        ("rse_tf.layers.noise", "from rse_tf.data import Dataset", "rse_tf.data.Dataset"),
        ("rse_tf.attacks.bim", "def f():\n    from rse_tf import models", "rse_tf.models"),
        ("rse_tf.attacks.bim", "from rse_tf.layers import NoiseLayer", "rse_tf.layers.NoiseLayer"),
        ("rse_tf.attacks.bim", "from ..models import vgg", "rse_tf.models.vgg"),
        ("rse_tf.data", "from ..models import vgg", "rse_tf.models.vgg"),
        ("rse_tf.data.loaders", "from rse_tf import SelfEnsemble", "rse_tf.SelfEnsemble"),
        ("rse_tf.data.loaders", "import rse_tf", "rse_tf"),
        ("rse_tf.models.vgg", "import rse_tf.training.loop as loop", "rse_tf.training.loop"),
        ("rse_tf.training.loop", "from rse_tf.evaluation import score", "rse_tf.evaluation.score"),
        ("rse_tf.reporting.results", "from rse_tf.attacks import FGSM", "rse_tf.attacks.FGSM"),
        ("rse_tf.defenses.rse", "from rse_tf import flags", "rse_tf.flags"),
        ("rse_tf.config", "from rse_tf.flags import parse", "rse_tf.flags.parse"),
        ("rse_tf.experiment", "from rse_tf.flags import parse", "rse_tf.flags.parse"),
        ("rse_tf.training.loop", "from rse_tf import defenses", "rse_tf.defenses"),
        ("rse_tf.evaluation", "from rse_tf.config import Config", "rse_tf.config.Config"),
        ("rse_tf.experiment", "from rse_tf import papers", "rse_tf.papers"),
        ("rse_tf.experiment", "from rse_tf import main", "rse_tf.main"),
        ("rse_tf.main", "from rse_tf import train", "rse_tf.train"),
        ("rse_tf", "from rse_tf import flags", "rse_tf.flags"),
        ("rse_tf", "from . import config", "rse_tf.config"),
        ("rse_tf.utils.log", "from rse_tf.layers import BReLU", "rse_tf.layers.BReLU"),
    ],
)
def test_the_checker_notices_an_upward_import(module: str, source: str, expected: str) -> None:
    (found,) = violations(source, module, is_package=module.count(".") < 2)
    assert found.startswith(f"{module} imports ") and found.endswith(expected)


def test_the_checker_notices_absl_and_unknown_rooms() -> None:
    for source in ("from absl import flags", "import absl.flags", "import absl"):
        assert violations(source, "rse_tf.training.loop") == ["rse_tf.training.loop imports absl"]
        assert violations(source, "rse_tf.flags") == violations(source, "rse_tf.main") == []
    (found,) = violations("", "rse_tf.helpers")
    assert "no known room" in found


def test_the_checker_allows_what_points_down() -> None:
    for module, source in (
        ("rse_tf.attacks.bim", "from rse_tf.attacks.base import Attack\nimport tensorflow"),
        ("rse_tf.attacks.bim", "from .base import Attack\nfrom ..utils.files import atomic_path"),
        ("rse_tf.models.vgg", "from rse_tf.layers import NoiseLayer"),
        ("rse_tf.experiment", "from rse_tf import data\nfrom rse_tf.config import Config"),
        ("rse_tf.main", "from rse_tf import flags, experiment"),
        ("rse_tf.reproduce", "from absl import flags\nfrom rse_tf import flags, papers"),
    ):
        assert violations(source, module) == []


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES}
    short = {PACKAGE / f"{name}.py" for name in ENTRY_POINTS}
    assert [p for p, length in lengths.items() if length > (80 if p in short else 300)] == []


# Tracing.


def traced_by_autograph(source: str) -> list[str]:
    """Calls of `tf.function` that leave AutoGraph on."""
    nodes = list(ast.walk(ast.parse(source)))
    traced = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
    traced = [call for call in traced if call.startswith("tf.function(")]
    bare = ["@tf.function"] if "@tf.function\n" in source else []
    if len(traced) != source.count("tf.function("):
        bare.append("tf.function( where it is not called")
    return bare + [call for call in traced if "autograph=False" not in call]


def test_nothing_is_traced_by_autograph() -> None:
    # It takes a third of the time of a trace, and does nothing for code that calls tf.cond itself.
    assert {p.name: calls for p in MODULES if (calls := traced_by_autograph(p.read_text()))} == {}
    assert traced_by_autograph("f = tf.function(g)") == ["tf.function(g)"]


# Documentation and types.


def is_public(node: ast.AST) -> bool:
    return not getattr(node, "name", "_").startswith("_") or node.name == "__init__"  # type: ignore


def has_docstring(node: ast.FunctionDef | ast.ClassDef | ast.Module) -> bool:
    given = [
        target.id
        for line in node.body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    ]
    return bool(ast.get_docstring(node)) or "__doc__" in given


def has_types(function: ast.FunctionDef, is_method: bool) -> bool:
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    static = any(getattr(mark, "id", "") == "staticmethod" for mark in function.decorator_list)
    if is_method and not static:
        listed = listed[1:]
    starred = [star for star in (arguments.vararg, arguments.kwarg) if star]
    return function.returns is not None and all(a.annotation for a in listed + starred)


def undocumented(source: str) -> list[str]:
    """Public functions and classes without a docstring, and signatures without types."""
    module = ast.parse(source)
    found = [] if has_docstring(module) else ["the module has no docstring"]
    for node in module.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or not is_public(node):
            continue
        if not has_docstring(node):
            found.append(f"{node.name} has no docstring")
        methods = [node] if isinstance(node, ast.FunctionDef) else node.body
        for method in methods:
            if isinstance(method, ast.FunctionDef) and is_public(method):
                if not has_types(method, is_method=method is not node):
                    found.append(f"{node.name}: {method.name} has no types")
    return found


def test_what_is_public_has_a_docstring_and_types() -> None:
    assert {p.name: lines for p in MODULES if (lines := undocumented(p.read_text()))} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", ["the module has no docstring"]),
        ('"""M."""\ndef f() -> int:\n    return 1', ["f has no docstring"]),
        ('"""M."""\ndef f():\n    "F."', ["f: f has no types"]),
        ('"""M."""\ndef f(a, *, b: int) -> int:\n    "F."', ["f: f has no types"]),
        ('"""M."""\ndef f(*args) -> int:\n    "F."', ["f: f has no types"]),
        ('"""M."""\nclass C:\n    pass', ["C has no docstring"]),
        ('"""M."""\nclass C:\n    "C."\n    def f(self, x) -> int: ...', ["C: f has no types"]),
        (
            '"""M."""\nclass C:\n    "C."\n    def __init__(self, x): ...',
            ["C: __init__ has no types"],
        ),
        ('"""M."""\nclass C:\n    "C."\n    def f(self, x: int) -> int: ...', []),
        ('"""M."""\ndef _f(x):\n    return x', []),
    ],
)
def test_the_checker_notices_what_is_undocumented(source: str, expected: list[str]) -> None:
    assert undocumented(source) == expected
