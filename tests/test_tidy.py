"""The house rules that a program can read: sizes, banned words, error codes that are documented.

Method: read every tracked source file as text or as a syntax tree and collect all findings, so that
one run names everything there is to mend.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "inferway"

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
# Parts of names and words that must not stand in the project. They are put together here so
# that this file does not contain them itself.
HISTORY_WORDS = ("no longer", "used to be", "previously", "formerly", "was changed")


def python_files() -> Iterator[Path]:
    for path in sorted(SOURCES.rglob("*.py")):
        if "_gen" not in path.parts:
            yield path


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which may be as long as it needs."""
    first = function.body[0]
    has_docstring = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    skipped = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - skipped


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_and_functions_stay_small() -> None:
    findings = []
    for path in python_files():
        text = path.read_text()
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            findings.append(f"{relative(path)}: {lines} lines, at most {FILE_LINES_MAX}")
        for function in functions(ast.parse(text)):
            size = body_lines(function)
            if size > FUNCTION_LINES_MAX:
                findings.append(
                    f"{relative(path)}:{function.lineno}: {function.name} has {size} lines, "
                    f"at most {FUNCTION_LINES_MAX}"
                )
    assert findings == []


def test_functions_take_few_positional_parameters() -> None:
    findings = []
    for path in python_files():
        for function in functions(ast.parse(path.read_text())):
            names = [a.arg for a in function.args.args if a.arg not in {"self", "cls"}]
            if len(names) > PARAMETERS_MAX:
                findings.append(f"{relative(path)}:{function.lineno}: {function.name}")
    assert findings == []


def test_every_module_says_what_it_knows() -> None:
    findings = [
        relative(path)
        for path in python_files()
        if path.stat().st_size > 0 and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert findings == []


def test_no_globals_and_no_leftovers() -> None:
    findings = []
    for path in python_files():
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            comment = line.split("#", 1)[1].lower() if "#" in line else ""
            if re.search(r"\b(todo|fixme|xxx)\b", comment):
                findings.append(f"{relative(path)}:{number}: leftover: {line.strip()}")
            if any(word in comment for word in HISTORY_WORDS):
                findings.append(f"{relative(path)}:{number}: history: {line.strip()}")
        findings += [
            f"{relative(path)}:{node.lineno}: global {', '.join(node.names)}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Global)
        ]
    assert findings == []


def test_tests_do_not_sleep() -> None:
    pattern = re.compile(r"\b(?:time|asyncio)\.sleep\(")
    findings = [
        f"{relative(path)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert findings == []


def test_error_codes_are_documented_and_documented_codes_exist() -> None:
    pattern = re.compile(r"INFERWAY\d{4}")
    used = {code for path in python_files() for code in pattern.findall(path.read_text())}
    pages = [ROOT / "docs/reference/errors.md", *(ROOT / "docs/reference/errors").glob("*.md")]
    documented = {
        code for page in pages if page.exists() for code in pattern.findall(page.read_text())
    }
    assert sorted(used) == sorted(documented)
