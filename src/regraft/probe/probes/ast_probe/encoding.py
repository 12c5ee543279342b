"""A constituency tree as numbers between its tokens, and back (paper, sections 3.1 and 3.2).

Enters: a tree whose leaves are tokens, of code or of a sentence. Leaves: its `Code` (d, c, u), from which the tree comes back whole, and
its constituents. Everything goes without recursion, so that a list of ten thousand literals is a tree like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from regraft.errors import InputError

NONE = "∅"  # label of filler nodes, and of tokens without a unary label
JOIN = "<sep>"  # between the labels of a chain of single children
BAD_ROOT = "bad_root"  # label of a predicted root that is a filler

Constituent = tuple[str, int, int]  # label, first token, last token


@dataclass(frozen=True)
class Tree:
    """A node: its label and its children, in order; a token is a child of type str."""

    label: str
    children: tuple["Tree | str", ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """The leaves, from left to right."""
        found, pending = [], list(reversed(self.children))
        while pending:
            child = pending.pop()
            if isinstance(child, str):
                found.append(child)
            else:
                pending.extend(reversed(child.children))
        return tuple(found)


@dataclass(frozen=True)
class Code:
    """A tree of n + 1 tokens as (d, c, u).

    Attributes
    ----------
    d : n heights; d[i] is that of the lowest common ancestor of tokens i and i + 1. Of a predicted one only the order counts.
    c : n labels of those ancestors, `NONE` for fillers. u : n + 1 labels of single children above tokens, `NONE` where there are none.
    """

    d: tuple[float, ...]
    c: tuple[str, ...]
    u: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.d) == len(self.c) == len(self.u) - 1:
            raise InputError(f"a tree of {len(self.u)} tokens has {len(self.u) - 1} heights and labels, not {len(self.d)}, {len(self.c)}")


def encode(tree: Tree) -> Code:
    """(d, c, u) of `tree`: chains of single children become one label, nodes with more than two children branch to the right by fillers.

    Raises `InputError` for a node without children and for labels that hold one of our marks.
    """
    count = len(tree.tokens)
    d, c, u = [0] * (count - 1), [NONE] * (count - 1), [NONE] * count
    done: list[tuple[int, int]] = []  # height and first token of subtrees that wait for their parent
    pending: list[Tree | str | tuple[str, int]] = [tree]
    position = 0
    while pending:
        node = pending.pop()
        if isinstance(node, Tree):
            label, children = _chain(node)
            if len(children) == 1:
                u[position] = label
            else:
                pending.append((label, len(children)))
            pending.extend(reversed(children))
        elif isinstance(node, str):
            done.append((0, position))
            position += 1
        else:
            label, width = node
            parts, height = done[-width:], done[-1][0]
            for (left, _), (_, right_first) in zip(reversed(parts[:-1]), reversed(parts[1:]), strict=True):
                height = 1 + max(left, height)
                d[right_first - 1] = height
            c[parts[1][1] - 1] = label
            done[-width:] = [(height, parts[0][1])]
    return Code(tuple(d), tuple(c), tuple(u))


def decode(code: Code, tokens: Sequence[str]) -> Tree:
    """The tree of `tokens` (n + 1) that `code` stands for; the inverse of `encode`."""
    if len(tokens) != len(code.u):
        raise InputError(f"(d, c, u) of {len(code.u)} tokens and {len(tokens)} tokens do not belong together")
    ordered = sorted(constituents(code), key=lambda one: (one[1], -one[2]))  # parents before children; chains stay as they are
    root: list[Tree | str] = []
    open_: list[tuple[Constituent, list[Tree | str]]] = []
    place = 0
    for position, token in enumerate(tokens):
        while place < len(ordered) and ordered[place][1] == position:
            open_.append((ordered[place], []))
            place += 1
        (open_[-1][1] if open_ else root).append(token)
        while open_ and open_[-1][0][2] == position:
            (label, _, _), children = open_.pop()
            (open_[-1][1] if open_ else root).append(Tree(label, tuple(children)))
    if len(root) == 1 and isinstance(root[0], Tree):
        return root[0]
    return Tree(BAD_ROOT, tuple(root))  # one token without a label


def constituents(code: Code) -> list[Constituent]:
    """Every node of the tree that `code` stands for; of a chain the outer first.

    The span of all tokens is split where d is highest, the first time on ties, and so on: node i reaches left to the next d that is as high
    and right to the next that is higher, which one pass with a stack finds for all.
    """
    count = len(code.d)
    first, last = [0] * count, [count] * count
    stack: list[int] = []
    for i, height in enumerate(code.d):
        while stack and code.d[stack[-1]] < height:
            last[stack.pop()] = i
        first[i] = stack[-1] + 1 if stack else 0
        stack.append(i)
    found = []
    for label, start, end in zip(code.c, first, last, strict=True):
        if label != NONE:
            found += [(part, start, end) for part in label.split(JOIN)]
        elif end - start == count:
            found.append((BAD_ROOT, start, end))
    for position, label in enumerate(code.u):
        if label != NONE:
            found += [(part, position, position) for part in label.split(JOIN)]
    return found


def _chain(node: Tree) -> tuple[str, tuple[Tree | str, ...]]:
    """The labels of a chain of single children as one, and the children below it."""
    labels = [node.label]
    while len(node.children) == 1 and isinstance(node.children[0], Tree):
        node = node.children[0]
        labels.append(node.label)
    for label in labels:
        if not label or NONE in label or JOIN in label:
            raise InputError(f"a node is called '{label}': labels may not be empty, and may not hold {NONE} or {JOIN}")
    if not node.children:
        raise InputError(f"the node '{node.label}' has no children: every node must have tokens below it")
    return JOIN.join(labels), node.children
