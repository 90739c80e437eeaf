"""The packages `analysis` and `protocols`, installed beside this one, under names that no folder of a user's can hide.

``neurossl.analysis`` and ``neurossl.protocols`` are the very modules ``analysis`` and ``protocols``. Where a script has an
``analysis/`` or ``protocols/`` of its own beside it, those names are the script's, and the packages are loaded under
``neurossl.`` alone: what they import from each other is then looked up there as well.

Nothing is imported before it is asked for.
"""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

SIBLINGS = ("analysis", "protocols")
_PLACE = Path(__file__).resolve().parent.parent


def install() -> None:
    """Make ``import neurossl.analysis`` and ``import neurossl.protocols`` find the packages."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # before the finder of files, which would load the modules a second time


def hidden(package: str) -> bool:
    """Return whether something else answers to the name of a package: a folder or a file beside a script."""
    module = sys.modules.get(package)
    spec = find_spec(package) if module is None else None
    found = getattr(module, "__file__", None) if spec is None else spec.origin
    return found is None or Path(found).resolve().parent != _PLACE / package


def own_packages(folder: Path) -> bool:
    """Return whether a folder holds something that hides one of the packages."""
    return any((folder / name).is_dir() or (folder / f"{name}.py").is_file() for name in SIBLINGS)


def load_apart() -> None:
    """Forget the packages, so that they are loaded under ``neurossl.`` alone from now on where something hides them."""
    for name in list(sys.modules):
        if name.removeprefix("neurossl.").partition(".")[0] in SIBLINGS:
            del sys.modules[name]


class _Finder(MetaPathFinder):
    """Finds ``neurossl.analysis``, ``neurossl.protocols`` and what is in them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        name = fullname.removeprefix("neurossl.")
        package, _, rest = name.partition(".")
        if name == fullname or package not in SIBLINGS:
            return None
        if not _alone(package):
            return None if rest and find_spec(name) is None else ModuleSpec(fullname, _Alias(name))
        if not rest:
            folder = str(_PLACE / package)
            file = f"{folder}/__init__.py"
            return spec_from_file_location(
                fullname, file, loader=_Renaming(fullname, file), submodule_search_locations=[folder]
            )
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Renaming(fullname, spec.origin)
        return spec


def _alone(package: str) -> bool:
    """Return whether a package is to be loaded under ``neurossl.`` alone, or has been."""
    loaded = sys.modules.get(f"neurossl.{package}")
    if loaded is not None:
        return isinstance(loaded.__loader__, _Renaming)
    return any(map(hidden, SIBLINGS))


class _Alias(Loader):
    """Gives a module a second name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # its first name stays its own

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of the module, for ``python -m neurossl.protocols.cli``."""
        spec = find_spec(self.name)
        assert spec is not None, "found before"
        return spec.loader.get_code(self.name) if isinstance(spec.loader, SourceFileLoader) else None

    def is_package(self, fullname: str) -> bool:
        """Return whether the module is a package."""
        spec = find_spec(self.name)
        return spec is not None and spec.submodule_search_locations is not None


class _Renaming(SourceFileLoader):
    """Loads a module of the packages so that its absolute imports of them mean ``neurossl.analysis`` and the like."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile anew: what is cached beside the source is that of the modules' first names."""
        path = self.get_filename(fullname)
        tree = _Rename().visit(ast.parse(self.get_data(path), path))
        return compile(tree, path, "exec", dont_inherit=True)


class _Rename(ast.NodeTransformer):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if not node.level and node.module is not None and node.module.split(".")[0] in SIBLINGS:
            node.module = f"neurossl.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.name in SIBLINGS and alias.asname is None:
                alias.asname = alias.name
            if alias.name.split(".")[0] in SIBLINGS:
                alias.name = f"neurossl.{alias.name}"
        return node
