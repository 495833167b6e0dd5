"""The package's source as trees: which file stands on which floor, and what it imports."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gossamer"
FLOORS: dict[str, int] = {
    **dict.fromkeys(["contract", "errors", "seeds", "targets", "hub", "revision"], 0),
    **dict.fromkeys(["sparsity", "quantization", "distillation"], 1),
    **dict.fromkeys(["models", "data"], 2),
    **dict.fromkeys(["compression", "tasks"], 3),
    **dict.fromkeys(["export", "measure", "records"], 4),
    **dict.fromkeys(["fit", "ranks", "crew", "interruption", "journal", "dense"], 5),
    **dict.fromkeys(["stages", "execution", "plan", "pictures", "proof", "result"], 5),
    **dict.fromkeys(["run", "progress", "sweep"], 5),
    "__init__": 5,  # what `import gossamer` offers
    "cli": 6,
}


@dataclass(frozen=True)
class Import:
    """One module that a file names; `typing`: only where types are checked."""

    file: str  # relative to the package
    line: int
    module: str
    typing: bool

    @property
    def importer(self) -> str:
        return room(self.file)

    @property
    def imported(self) -> str:
        """The room of ours that is imported; "" for other packages."""
        words = self.module.split(".")
        return (words[1] if len(words) > 1 else "__init__") if words[0] == "gossamer" else ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(file: str) -> str:
    """The part of the house that a file belongs to: a folder, or a module at the top."""
    return Path(file).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions and under TYPE_CHECKING included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    name = str(file.relative_to(PACKAGE))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [each.name for each in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                modules = [f"{module}.{each.name}" for each in names]
            case ast.ImportFrom():
                raise AssertionError(f"{name}:{node.lineno}: a relative import")
            case _:
                continue
        for module in modules:
            yield Import(name, node.lineno, module, id(node) in checked)


def all_imports() -> list[Import]:
    return [one for file in files() for one in imports(file)]
