"""Properties of the code itself that no other tool checks."""

import ast
import operator
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("operator/storekeeper/**/*.py"), *ROOT.glob("store_runtime/**/*.py")])
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "base"}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listing.splitlines() if (ROOT / line).is_file()]


def test_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert operator.itemgetter(0)("ab") == "a"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_named_by_a_noun_and_fit_a_sitting(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    tree = ast.parse(text)
    if tree.body:
        assert ast.get_docstring(tree), "a module says where it stands in the flow"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= FUNCTION_LINES_MAX, f"{node.name} is {length} lines long"


def test_lock_files_name_no_download_host_and_pin_every_hash() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        requirements = re.findall(r"^[A-Za-z0-9._-]+(?:\[[^\]]+\])?==", text, re.MULTILINE)
        assert len(requirements) > 30
        assert text.count("==") <= text.count("--hash=sha256:")


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]\n")[0].splitlines()
    for line in lines:
        if line.strip().startswith('"'):
            assert "#" in line, f"no reason given: {line.strip()}"


def test_files_name_no_path_of_a_machine() -> None:
    pattern = re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm)/")
    for path in tracked():
        if path.suffix in {".lock", ".sum", ".png"} or path == Path(__file__):
            continue
        assert not pattern.search(path.read_text(errors="replace")), path.relative_to(ROOT)
