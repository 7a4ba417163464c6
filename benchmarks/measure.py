"""Measures size, shape and language of the product's source: ``make measure``.

``python -m benchmarks.measure --source DIR`` measures another checkout. benchmarks/journeys.py measures the journeys.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("app.py", "pages", "services", "state")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
THIN_FILE_LINES = 60

PERSONIFIED = re.compile(
    r"\b(?:tells?|told|knows?|known to|looks? at|looked at|whoever|whatever|somebody|nobody|anybody|everybody"
    r"|says?|is said|asks? for|is asked|goes on|stands? still|wishes|trampled|at it)\b",
    re.IGNORECASE,
)
"""Verbs and pronouns that make code a person. Source: docs/glossary.md."""

RELATIVE = re.compile(r"^(?:The same|And|But|Those|These|That|It|They|Without|None:|What|How|Whether|Where|Which)\b")
"""A docstring that begins so either leans on its neighbour or never names its subject."""

RETIRED = re.compile(
    r"\b(?:witness|their side|theirs|both sides|steer(?:s|ed|ing)?|loans?|lens|courses?|(?<!dead )letters?|stakes?"
    r"|timekeeping|deeds?|wish(?:es)?)\b",
    re.IGNORECASE,
)
"""Words that the glossary has replaced."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method and its lines, decorators excluded."""

    file: str
    name: str
    lines: int


@dataclass(frozen=True, slots=True)
class Source:
    """What the files of one checkout contain."""

    lines: dict[str, int]
    code_lines: int
    functions: tuple[Function, ...]
    docstrings: tuple[str, ...]
    class_names: tuple[str, ...]


def read(root: Path) -> Source:
    """Parse every product file below ``root``; migrations count as files and lines, not as code to read."""
    lines: dict[str, int] = {}
    code_lines = 0
    functions: list[Function] = []
    docstrings: list[str] = []
    classes: list[str] = []
    for path in product_files(root):
        text = path.read_text()
        name = path.relative_to(root).as_posix()
        lines[name] = text.count("\n")
        code_lines += count_code_lines(text)
        if "migrations/versions" in name:
            continue
        for node in ast.walk(tree := ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(Function(name, node.name, (node.end_lineno or node.lineno) - node.lineno + 1))
            if isinstance(node, ast.ClassDef):
                classes.append(node.name)
        docstrings += docstrings_of(tree)
    return Source(lines, code_lines, tuple(functions), tuple(docstrings), tuple(classes))


def product_files(root: Path) -> Iterator[Path]:
    """The Python files of the product, without empty package markers."""
    for part in PRODUCT:
        found = [root / part] if part.endswith(".py") else sorted((root / part).rglob("*.py"))
        yield from (path for path in found if path.stat().st_size)


def count_code_lines(text: str) -> int:
    """Lines that hold code: blank lines, comments and docstrings are left out."""
    held: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            held.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            held.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(held)


def docstrings_of(tree: ast.Module) -> list[str]:
    """Docstrings of modules, classes and functions, and the strings that describe a constant."""
    return [
        " ".join(node.value.value.split())
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def is_riddle(docstring: str) -> bool:
    """Whether the first sentence of a docstring personifies code, names no subject or uses a retired word.

    A rule of thumb: it finds candidates for rewriting and gives a number that can be compared between commits.
    """
    first = re.split(r"(?<=[.:;])\s", docstring, maxsplit=1)[0]
    return bool(PERSONIFIED.search(first) or RETIRED.search(first) or re.match(r"^(?:The same|And|But)\b", first))


def report(root: Path) -> str:
    """The figures of one checkout, one a line."""
    source = read(root)
    long_files = sorted((lines, name) for name, lines in source.lines.items() if lines > MAX_FILE_LINES)
    long_functions = sorted(
        (function.lines, f"{function.file}:{function.name}")
        for function in source.functions
        if function.lines > MAX_FUNCTION_LINES
    )
    thin = sum(1 for lines in source.lines.values() if lines < THIN_FILE_LINES)
    riddles = [text for text in source.docstrings if is_riddle(text)]
    vague = [text for text in source.docstrings if RELATIVE.match(text)]
    repeated = {name for name in source.class_names if source.class_names.count(name) > 1}
    rows = [
        ("files", len(source.lines)),
        ("lines", sum(source.lines.values())),
        ("lines of code", source.code_lines),
        (f"files under {THIN_FILE_LINES} lines", thin),
        (f"files over {MAX_FILE_LINES} lines", len(long_files)),
        (f"functions over {MAX_FUNCTION_LINES} lines", len(long_functions)),
        ("functions", len(source.functions)),
        ("class names used twice", len(repeated)),
        ("docstrings", len(source.docstrings)),
        ("docstrings to reread, per 100", round(100 * len(riddles) / len(source.docstrings), 1)),
        ("docstrings that name no subject, per 100", round(100 * len(vague) / len(source.docstrings), 1)),
    ]
    shown = [f"{name:<44} {value:>8}" for name, value in rows]
    shown += [f"  long file      {lines:>5} {name}" for lines, name in reversed(long_files)]
    shown += [f"  long function  {lines:>5} {name}" for lines, name in reversed(long_functions)]
    return "\n".join(shown)


def main() -> None:
    """Print the figures; ``--riddles`` lists the docstrings that were counted as such."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout to measure")
    parser.add_argument("--riddles", action="store_true", help="list the docstrings to reread")
    arguments = parser.parse_args()
    print(report(arguments.source))
    if arguments.riddles:
        for path in product_files(arguments.source):
            for text in docstrings_of(ast.parse(path.read_text())):
                if is_riddle(text):
                    print(f"{path.relative_to(arguments.source)}: {text[:150]}")


if __name__ == "__main__":
    main()
