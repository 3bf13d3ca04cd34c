"""What a disk holds after a power cut: a model of files, folders and what was synced of them.

Follows POSIX where it promises least. The bytes of a file are safe from `fsync` of the file on, a name in
a folder from `fsync` of the folder on, and neither brings the other. Of what is not safe, anything may
have arrived: every 512-byte sector of a write for itself, a length without its bytes (zeros), and of the
changes of names any (`Subset`) or all up to some moment (`Prefix`, a journaling file system). A change of
names is whole or not at all, a rename too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR_BYTES = 512

Tree = dict[str, bytes | None]  # content by path below the root; None for a folder


@dataclass(frozen=True)
class Operation:
    """One line of the shim's log.

    Args:
        kind: "create", "write", "truncate", "sync", "unsynced" (a sync that failed), "rename", "link",
            "unlink", "mkdir", or "mark".
        path, other: Below the root; of a mark "".
        offset: Of a write; the new length of a truncate.
    """

    kind: str
    path: str
    other: str = ""
    offset: int = 0
    content: bytes = b""


@dataclass(eq=False)
class File:
    """A file: what is safe, and what came after."""

    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and bytes, or a length
    cache: bytes | None = None  # what a program reads of the file, where that is not what is safe

    def now(self) -> bytes:
        """What a program reads."""
        return _changed(self.safe if self.cache is None else self.cache, self.pending)

    def sync(self) -> None:
        """Make everything safe."""
        if self.cache is not None:
            self.cache = self.now()
        self.safe, self.pending = _changed(self.safe, self.pending), []

    def fail_to_sync(self) -> None:
        """What is not safe will not be, unless it is written again; a program sees no difference."""
        self.cache, self.pending = self.now(), []

    def survivor(self, random: Random) -> bytes:
        """One of the contents that a power cut may leave."""
        content = bytearray(self.safe)
        share = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for offset, piece in self.pending:
            if piece is None:
                if random.random() < share:
                    _change(content, offset, None)
                continue
            start = offset
            while start < offset + len(piece):
                end = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, offset + len(piece))
                if random.random() < share:
                    _change(content, start, piece[start - offset : end - offset])
                start = end
        if self.pending and random.random() < 0.3:  # the length is there, the bytes are not
            _change(content, max(len(content), len(self.now())), None)
        return bytes(content)


@dataclass(eq=False)
class Folder:
    """A folder: the names that are safe, those that a program sees, and the changes between."""

    safe: dict[str, Node] = field(default_factory=dict)
    names: dict[str, Node] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)


Node = File | Folder


@dataclass(eq=False)
class Change:
    """A change of names that happens whole or not at all: (folder, name, what it names then)."""

    updates: list[tuple[Folder, str, Node | None]]


class Disk:
    """A root folder and everything in it.

    Args:
        tree: What is there, and safe, at the beginning.
    """

    def __init__(self, tree: Mapping[str, bytes | None]) -> None:
        """Lay the tree out."""
        self.root = Folder()
        self._order: list[Change] = []
        for path in sorted(tree):
            folder, name = self._parent(path)
            content = tree[path]
            folder.names[name] = folder.safe[name] = Folder() if content is None else File(content)

    def apply(self, operation: Operation) -> None:
        """Let an operation happen."""
        if operation.kind == "mark":
            return
        if operation.kind == "unsynced":
            node = self._find(operation.path)
            if isinstance(node, File):  # changes of names are the journal's, which may still be written
                node.fail_to_sync()
        elif operation.kind == "sync":
            self._sync(self._find(operation.path))
        elif operation.kind in ("write", "truncate"):
            file = self._find(operation.path)
            if isinstance(file, File):  # else it was unlinked and only its writer sees it
                piece = operation.content if operation.kind == "write" else None
                file.pending.append((operation.offset, piece))
        else:
            self._change(operation)

    def everything(self) -> Tree:
        """What programs see now; a process that is killed leaves just this."""
        return _laid_out(self.root, lambda folder: folder.names, File.now)

    def safe(self) -> Tree:
        """What a power cut leaves at least: nothing that was not synced has arrived."""
        return _laid_out(self.root, lambda folder: folder.safe, lambda file: file.safe)

    def survivor(self, random: Random) -> Tree:
        """One of the trees that a power cut may leave."""
        waiting = [change for change in self._order if any(change in f.pending for f, _, _ in change.updates)]
        if random.random() < 0.5:  # a journal: all changes up to some moment
            kept = waiting[: random.randint(0, len(waiting))]
        else:
            share = random.choice((0.1, 0.5, 0.9))
            kept = [change for change in waiting if random.random() < share]
        names: dict[int, dict[str, Node]] = {}
        for change in kept:
            for folder, name, node in change.updates:
                of = names.setdefault(id(folder), dict(folder.safe))
                if node is None:
                    of.pop(name, None)
                else:
                    of[name] = node
        contents: dict[int, bytes] = {}  # two names of one file show the same

        def content(file: File) -> bytes:
            return contents.setdefault(id(file), file.survivor(random))

        return _laid_out(self.root, lambda folder: names.get(id(folder), folder.safe), content)

    def _sync(self, node: Node | None) -> None:
        if isinstance(node, File):
            node.sync()
        elif node is not None:
            for change in list(node.pending):
                for folder, name, target in change.updates:
                    if change in folder.pending:
                        folder.pending.remove(change)
                    if target is None:
                        folder.safe.pop(name, None)
                    else:
                        folder.safe[name] = target
                self._order.remove(change)

    def _change(self, operation: Operation) -> None:
        folder, name = self._parent(operation.path)
        if operation.kind == "create":
            updates: list[tuple[Folder, str, Node | None]] = [(folder, name, File())]
        elif operation.kind == "mkdir":
            updates = [(folder, name, Folder())]
        elif operation.kind == "unlink":
            updates = [(folder, name, None)]
        else:
            target, new = self._parent(operation.other)
            node = folder.names[name]
            updates = [(target, new, node)]
            if operation.kind == "rename" and target.names.get(new) is not node:
                updates.append((folder, name, None))
        change = Change(updates)
        self._order.append(change)
        for where, called, what in updates:
            if change not in where.pending:
                where.pending.append(change)
            if what is None:
                where.names.pop(called, None)
            else:
                where.names[called] = what

    def _parent(self, path: str) -> tuple[Folder, str]:
        *folders, name = path.split("/")
        node: Node | None = self.root
        for part in folders:
            if not isinstance(node, Folder):
                break
            node = node.names.get(part)
        if not isinstance(node, Folder):
            raise AssertionError(f"{path} is in no folder that the log has told of")
        return node, name

    def _find(self, path: str) -> Node | None:
        if not path:
            return self.root
        folder, name = self._parent(path)
        return folder.names.get(name)


def read_log(log: Path, root: Path) -> list[Operation]:
    """The shim's log, paths made relative to the root."""
    content, start, found = log.read_bytes(), 0, []
    while start < len(content):
        end = content.index(b"\n", start)
        kind, path, other, offset, length = content[start:end].decode().split("\t")
        start = end + 1 + int(length)
        below = ["" if kind == "mark" else _below(Path(p), root) for p in (path, other)]
        found.append(Operation(kind, below[0], below[1], int(offset), content[end + 1 : start]))
    return found


def replay(tree: Mapping[str, bytes | None], operations: Iterable[Operation]) -> Disk:
    """The disk after some operations."""
    disk = Disk(tree)
    for operation in operations:
        disk.apply(operation)
    return disk


def read_tree(root: Path) -> Tree:
    """What lies below a folder, SQLite's shared memory left out."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if not path.name.endswith("-shm")
    }


def write_tree(tree: Mapping[str, bytes | None], root: Path) -> None:
    """Lay a tree out in a real folder, readable by its owner only."""
    root.mkdir(parents=True)
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            (root / path).mkdir(mode=0o700)
        else:
            (root / path).touch(0o600)
            (root / path).write_bytes(content)


def _laid_out(
    root: Folder, names: Callable[[Folder], dict[str, Node]], content: Callable[[File], bytes]
) -> Tree:
    tree: Tree = {}
    waiting: list[tuple[str, Folder, tuple[Folder, ...]]] = [("", root, (root,))]
    while waiting:
        before, folder, above = waiting.pop()
        for name, node in names(folder).items():
            if isinstance(node, File):
                tree[before + name] = content(node)
            elif node not in above:
                tree[before + name] = None
                waiting.append((f"{before}{name}/", node, (*above, node)))
    return tree


def _changed(before: bytes, pieces: Iterable[tuple[int, bytes | None]]) -> bytes:
    content = bytearray(before)
    for offset, piece in pieces:
        _change(content, offset, piece)
    return bytes(content)


def _change(content: bytearray, offset: int, piece: bytes | None) -> None:
    """Write at an offset, or (None) set the length."""
    if piece is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if piece is not None:
        content[offset : offset + len(piece)] = piece


def _below(path: Path, root: Path) -> str:
    return "" if path in (root, Path(".")) else str(path.relative_to(root))
