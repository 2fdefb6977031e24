"""A user's module as another Python process would run it, on another machine and another day.

Python draws new hashes of text in each process, and with them the order of sets; the process has
another number, host, user and clock. A model that is built from any of them differs between
training and evaluation, but gets the same weights.
No second process is needed to see it: in a module that is loaded here, sets of anything but numbers
are iterated backwards, `hash` of text is another number, and the standard modules that tell about
the process tell something else (`components.models.process_facts`).
"""

import ast
import builtins
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from components.models.process_facts import other_facts
from components.models.user_code import AsWritten, load_module

_BACKWARDS = "__slipway_backwards__"
_TAKING_ALL = frozenset({"dict", "enumerate", "filter", "iter", "list", "map", "tuple", "zip"})
_TAKING_ALL_METHODS = frozenset({"extend", "fromkeys", "join", "update"})
_SALT = "another process"
_NAMED = 3  # facts in a message


class Elsewhere:
    """Another process: it loads the modules of a pipeline folder, and knows what they asked it."""

    def __init__(self, folder: Path, has_other_facts: bool = True) -> None:
        """Load from `folder`; without `has_other_facts`, only hashes and sets are others."""
        self._folder = folder
        self._facts = other_facts(self._note) if has_other_facts else {}
        self._beside: dict[str, ModuleType] = {}
        self._noticed: dict[tuple[str, str], str] = {}  # by what was done, and where
        self.texts: dict[str, None] = {}  # of sets that were gone through, or hashed

    @property
    def words(self) -> str:
        """What the modules did that another process would do differently; empty if nothing.

        The first three facts, and how many more there are.
        """
        facts = list(self._noticed.values())
        if more := len(facts[_NAMED:]):
            facts[_NAMED:] = [f"uses {more} more such facts"]
        return ", and ".join(facts)

    def load(self, filename: str) -> ModuleType:
        """Import one file of the folder as `load_module` does, and files beside that it imports.

        What is imported from packages in the folder, or from elsewhere, is as it is here.
        """
        elsewhere = self

        class Loader(AsWritten):
            def source_to_code(self, data: Any, path: Any, **_: Any) -> CodeType:  # type: ignore[override]
                tree = _Backwards().visit(ast.parse(data, str(path)))
                return compile(ast.fix_missing_locations(tree), str(path), "exec")

            def exec_module(self, module: ModuleType) -> None:
                elsewhere._beside[Path(filename).stem] = module
                vars(module).update(elsewhere._names())
                super().exec_module(module)

        return load_module(self._folder, filename, Loader)

    # --- what the modules call ------------------------------------------------------------------

    def _names(self) -> dict[str, Any]:
        own = {**vars(builtins), "__import__": self._import, "hash": self._hash}
        return {"__builtins__": own, _BACKWARDS: self._backwards}

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Iterable[str] = (),
        level: int = 0,
    ) -> ModuleType:
        top = name if fromlist else name.partition(".")[0]
        if level == 0 and top in self._facts:
            return self._facts[top]
        if level == 0 and name in self._beside:
            return self._beside[name]
        if level == 0 and (self._folder / f"{name}.py").is_file():
            return self.load(f"{name}.py")
        return __import__(name, globals, locals, tuple(fromlist or ()), level)

    def _backwards(self, values: Any) -> Any:
        """Return a set of other things than numbers as a list from the end, anything else as is."""
        if not isinstance(values, set | frozenset) or len(values) < 2 or _is_fixed(values):
            return values
        self.texts |= dict.fromkeys(one for one in values if isinstance(one, str))
        self._noticed["set", ""] = "goes through a set, whose order is another one in each process"
        return list(values)[::-1]

    def _hash(self, value: Any) -> int:
        """Return the hash that another process has of text."""
        if _is_fixed([value]):
            return hash(value)
        self.texts |= {value: None} if isinstance(value, str) else {}
        self._noticed["hash", ""] = "calls hash(), which is another one in each process"
        return hash((_SALT, value))

    def _note(self, read: str) -> None:
        """Note what a module of the folder reads, and where; others read what they like.

        All variables that a line reads of the environment, as a copy of it does, are one fact.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not self._is_own(frame):
            frame = frame.f_back
        if frame is not None:
            place = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
            kind = read.partition("[")[0]
            words = f"reads {read} ({place}), which is another one in each process"
            if self._noticed.setdefault((kind, place), words) != words:
                self._noticed[kind, place] = words.replace(read, kind)

    def _is_own(self, frame: FrameType) -> bool:
        return Path(frame.f_code.co_filename).is_relative_to(self._folder)


class _Backwards(ast.NodeTransformer):
    """Wraps everything that is iterated in a call of a function."""

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _handed(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = _handed(node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _handed(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func
        is_function = isinstance(called, ast.Name) and called.id in _TAKING_ALL
        if is_function or (
            isinstance(called, ast.Attribute) and called.attr in _TAKING_ALL_METHODS
        ):
            node.args = [a if isinstance(a, ast.Starred) else _handed(a) for a in node.args]
        return node


def _handed(node: ast.expr) -> ast.expr:
    function = ast.Name(_BACKWARDS, ast.Load())
    return ast.copy_location(ast.Call(function, [node], []), node)


def _is_fixed(values: Iterable[Any]) -> bool:
    """Tell whether every process has the same hashes of values: of numbers, and tuples of them."""
    return all(
        _is_fixed(value) if isinstance(value, tuple) else isinstance(value, int | float | complex)
        for value in values
    )
