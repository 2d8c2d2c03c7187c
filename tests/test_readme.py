"""What the READMEs tell people to type, import and follow is there."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from scripts import ROOT, script

from gluon_ran.commands.command_line import make_parser
from gluon_ran.models.convert import __main__ as convert

README, BENCHMARKS = ROOT / "README.md", ROOT / "benchmarks" / "README.md"
TRAINING = ("cifar10_train", "cifar100_train", "folder_train", "imagenet_train")
SCRIPTS = (*TRAINING, "evaluate", "pack", "launch")


def blocks(kind, *pages):
    """The code blocks of some pages that are marked as of a kind, as "sh"."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands():
    """Each command for one of our programs: its name, and its arguments."""
    found = []
    for block in blocks("sh", README):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;", line):
                words = shlex.split(part, comments=True)
                for start, word in enumerate(words):
                    name = Path(word).stem if word.startswith("train/") else word
                    name = "convert" if word == "gluon_ran.models.convert" else name
                    if name in (*SCRIPTS, "convert", "gluon-ran"):
                        found.append((name, words[start + 1 :]))
    return found


@pytest.mark.parametrize(
    "name, arguments",
    [pytest.param(name, found, id=f"{name} {' '.join(found)}"[:60]) for name, found in commands()],
)
def test_a_command_of_the_readme_is_understood(name, arguments):
    if name == "gluon-ran":
        make_parser().parse_args(arguments)
    elif name == "convert":
        convert.make_parser().parse_args(arguments)
    elif name == "launch":
        script(name).make_parser().parse_args(arguments[: arguments.index("--")])
    else:
        args = script(name).make_parser().parse_args(arguments)
        if name in TRAINING:
            flags = script("flags")
            flags.refuse_unread_flags(args, flags.recipe_from(args))
            flags.refuse_unfit_flags(args, args.dataset or args.usual_dataset or "cifar10")


def test_the_readme_has_commands_for_every_program():
    assert {name for name, _ in commands()} >= {
        *SCRIPTS, "convert", "gluon-ran"
    } - {"cifar100_train"}  # fmt: skip
    assert len(commands()) > 15


def options_of(parser):
    """All flags of a parser and of those below it."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        below = action.choices if isinstance(action.choices, dict) else {}
        found |= {flag for each in below.values() for flag in options_of(each)}
    return found


def test_a_flag_that_the_readme_names_is_one():
    parsers = [script(name).make_parser() for name in SCRIPTS]
    parsers += [make_parser(), convert.make_parser()]
    known = set().union(*map(options_of, parsers))
    told = set(re.findall(r"`(--[a-z][a-z0-9-]*)", README.read_text(encoding="utf-8")))
    assert len(told) > 40 and told - known == set()


def test_python_in_the_readmes_compiles_and_imports_what_there_is():
    found = blocks("python", README, BENCHMARKS)
    assert len(found) > 10
    for node in (node for block in found for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "gluon_ran":
            module = importlib.import_module(node.module)
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node) if hasattr(ast, "unparse") else ""
            if re.fullmatch(r"gluon_ran(\.\w+)+", name):
                value = importlib.import_module("gluon_ran")
                for part in name.split(".")[1:]:
                    value = getattr(value, part)


def source_of(name, folder=ROOT / "benchmarks"):
    """A benchmark's source, and that of the modules beside it which it imports."""
    text = (folder / f"{name}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    return text + "".join(source_of(each) for each in imported if (folder / f"{each}.py").is_file())


def test_a_flag_of_the_benchmarks_page_is_one_of_its_script():
    page = BENCHMARKS.read_text(encoding="utf-8").replace("\\\n", " ")
    told = re.findall(r"python (benchmarks/\w+\.py)([^`\n|]*)", page)
    for name, arguments in told:
        own, source = arguments.partition(" -- ")[0], source_of(Path(name).stem)
        assert [f for f in re.findall(r"(--[a-z-]+)", own) if f'"{f}"' not in source] == [], name
    assert len(told) > 20
    for name, arguments in re.findall(r"python (?:train/)?(\w+_train)\.py([^`\n|]*)", page):
        known = options_of(script(name).make_parser())
        assert set(re.findall(r"(--[a-z][a-z-]*)", arguments)) <= known, arguments


def anchors(page):
    """What a link can lead to: the headings, as they are turned into anchors on the web."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", [README, BENCHMARKS, ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target
