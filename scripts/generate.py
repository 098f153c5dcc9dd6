"""`make generate`: write what is made from code. With `--check`: say which file is not what the code makes of it."""

import sys
from pathlib import Path

from storekeeper.api import crdgen, reference

ROOT = Path(__file__).parents[1]


def generated() -> dict[Path, str]:
    """Path → content of every generated file."""
    files: dict[Path, str] = {}
    for name, text in crdgen.render().items():
        files[ROOT / "crds" / name] = text
        files[ROOT / "charts" / "storekeeper" / "files" / "crds" / name] = text
    for name, text in reference.render().items():
        files[ROOT / "docs" / name] = text
    return files


def main() -> int:
    stale = [path for path, text in generated().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code makes of it; run `make generate`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
