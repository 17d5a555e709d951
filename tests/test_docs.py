"""The README and the guides: what they link to, call and import is there."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import shlex
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from sphinx.cmd.build import build_main

import rse_tf
from rse_tf.__main__ import COMMANDS
from rse_tf.attacks import ATTACKS
from rse_tf.config import config_flags
from rse_tf.defenses import DEFENSES, ENSEMBLES
from rse_tf.evaluation.sanity import RULES
from rse_tf.flags import Output
from rse_tf.utils import flag_files
from rse_tf.utils.options import field_flags

PACKAGE = pathlib.Path(rse_tf.__file__).parent
ROOT = PACKAGE.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def anchor(heading: str) -> str:
    """The name of a heading in a link, as GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def prose(page: pathlib.Path) -> str:
    return re.sub(BLOCK, "", page.read_text(encoding="utf-8"))


def blocks(page: pathlib.Path, language: str) -> list[str]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, section = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        if section:
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert section in map(anchor, headings), link


def commands(page: pathlib.Path) -> Iterator[list[str]]:
    """The calls of our programs, in blocks and in lines: the program's name and its arguments."""
    lines = "\n".join(blocks(page, "bash")).splitlines()
    for line in [*lines, *(text.replace("\n", " ") for text in INLINE.findall(prose(page)))]:
        for part in re.split(r" && |; ", line):
            words = shlex.split(part, comments=True)
            if "-m" in words and words[words.index("-m") + 1 :][:1] != ["pip"]:
                module, *rest = words[words.index("-m") + 1 :]
                if module.startswith("rse_tf."):
                    yield [module.removeprefix("rse_tf."), *rest]
            elif words[:1] == ["rse-tf"] and len(words) > 1:
                yield words[1:]


@functools.cache
def known_flags(program: str) -> set[str]:
    source = (PACKAGE / f"{program}.py").read_text(encoding="utf-8")
    own = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source)) | set(field_flags(Output))
    # A program with flags of its own hands the others on, but for the report.
    return own | ({"help"} if program == "report" else {"help", "flagfile", *config_flags()})


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists_with_its_flags(name: str) -> None:
    for program, *rest in commands(ROOT / name):
        if program == "COMMAND":
            continue
        assert program in COMMANDS
        for word in rest:
            if not word.startswith("--"):
                continue
            flag, _, value = word.removeprefix("--").partition("=")
            assert flag in known_flags(program), word
            if flag == "flagfile" and "..." not in value:
                assert flag_files.find(value).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_in_the_text_exists(name: str) -> None:
    every = set().union(*map(known_flags, COMMANDS)) | {"list", "version"}
    for text in INLINE.findall(prose(ROOT / name)):
        if re.fullmatch(r"--\w+(=.*)?", text):
            assert text.removeprefix("--").partition("=")[0] in every, text


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_package_exists(name: str) -> None:
    page = ROOT / name
    names = {dotted(node) for text in blocks(page, "python") for node in ast.walk(ast.parse(text))}
    names |= set(re.findall(r"^(rse_tf(?:\.\w+)+)", "\n".join(INLINE.findall(prose(page))), re.M))
    for found in sorted(name for name in names if name.startswith("rse_tf.")):
        first, *rest = found.split(".")[1:]
        if not rest and first in (*COMMANDS, "X", "COMMAND"):
            continue  # a program
        assert functools.reduce(getattr, [first, *rest], rse_tf) is not None


def test_the_readme_is_short_and_has_the_test_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert "<!-- test command -->\n```bash\n" in text
    assert all(f"](docs/guides/{page.name})" in text for page in (ROOT / "docs/guides").iterdir())


def test_every_room_of_the_library_has_a_reference_page() -> None:
    rooms = {name for name in rse_tf.__all__ if (PACKAGE / name).is_dir()}
    assert {page.stem for page in (ROOT / "docs/reference").iterdir()} == rooms | {"index"}


def test_every_sanity_row_is_explained() -> None:
    page = (ROOT / "docs/guides/sanity_rows.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| ([A-E]\d) \| (.*?) \|", page, re.MULTILINE)
    assert explained == [(rule.id, rule.question) for rule in RULES]


def test_every_choice_of_the_command_line_is_explained() -> None:
    page = (ROOT / "docs/guides/command_line.md").read_text(encoding="utf-8")
    assert [name for name in (*ATTACKS, *DEFENSES, *ENSEMBLES) if f"`{name}`" not in page] == []
    assert [name for name in COMMANDS if f"| `{name}` |" not in page] == []


def test_the_site_builds_without_a_warning(tmp_path: pathlib.Path) -> None:
    arguments = ["-q", "-W", "--keep-going", "-b", "dummy", str(ROOT / "docs"), str(tmp_path)]
    assert build_main(arguments) == 0


def test_tensorflow_lite_takes_plain_networks_only() -> None:
    images = keras.random.uniform([3, 8, 8, 1])
    plain = keras.Sequential([keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    logits = plain(images)
    lite = tf.lite.TFLiteConverter.from_keras_model(plain).convert()
    interpreter = tf.lite.Interpreter(model_content=lite)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, images)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    # The guide tells why not.
    noisy = keras.Sequential([rse_tf.layers.NoiseLayer(0.1, sampler="exact"), *plain.layers])
    noisy(images)
    with pytest.raises(Exception, match="StatelessRandomGetKeyCounter"):
        tf.lite.TFLiteConverter.from_keras_model(noisy).convert()
