"""Parses the texts of expressions: ``only_if`` of positions, ``where`` of forbidden combinations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from ncp_jax import checks
from ncp_jax.spaces.expressions import ORDERS, Arithmetic, Comparison, Label, Logic, Node, Number, Place, decimal
from ncp_jax.spaces.positions import LONGEST, Position

LONGEST_TEXT, DEEPEST, MOST_WORDS = 2000, 50, 400  # of an expression: characters, nesting, words and signs
LARGEST_EXPONENT = 40
_TOKEN = re.compile(
    r"""\s*(?:(?P<word>(?:and|or|not|in|true|false|True|False)(?!\w))
    |(?P<name>[^\W\d]\w*(?:\.\w+|\[\w+\])*)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
    |(?P<text>'[^'\n]*'|"[^"\n]*")
    |(?P<sign>==|!=|<=|>=|[-<>()\[\],+*]))""",
    re.VERBOSE,
)


def parse(text: str, positions: Sequence[Position]) -> Node:
    """Returns the expression that a text writes.

    Args:
      text: the text.
      positions: the positions that it may name.

    Raises:
      UsageError: no expression; the text of the error names the character where it stops being one.
    """
    return _Parser(text, positions).whole()


class _Parser:
    """A recursive descent over the words of a text."""

    def __init__(self, text: str, positions: Sequence[Position]) -> None:
        if len(text) > LONGEST_TEXT:
            raise checks.UsageError(
                expected=f"an expression of at most {LONGEST_TEXT} characters",
                got=f"{len(text)} in {checks.shorten(text)!r}",
                remedy="write several forbidden combinations",
            )
        self._text, self._positions = text, positions
        self._places = {position.name: place for place, position in enumerate(positions)}
        self._words: list[tuple[str, str, int]] = []
        self._at = self._depth = 0
        self._read()

    def _read(self) -> None:
        text, at = self._text.rstrip(), 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self._wrong("a name, number, text in quotes or sign", at, repr(text[at]), self._hint(text[at:]))
            kind = str(found.lastgroup)
            self._words.append((kind, found[kind], found.start(kind)))
            at = found.end()
        if len(self._words) > MOST_WORDS:
            got = f"{len(self._words)} in {checks.shorten(text)!r}"
            expected = f"an expression of at most {MOST_WORDS} words and signs"
            raise checks.UsageError(expected=expected, got=got, remedy="write several forbidden combinations")
        self._words.append(("end", "", len(text)))

    @staticmethod
    def _hint(rest: str) -> str:
        hints = {"=": "write == to compare", "&": "write and", "|": "write or", "!": "write not or !="}
        return hints.get(rest[0], "see docs/spaces-of-your-own.md")

    def whole(self) -> Node:
        """Returns the expression; what is left over is an error."""
        node = self._truth(self._either())
        if self._words[self._at][0] != "end":
            raise self._unexpected("the end, or and / or")
        return node

    def _either(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        first = part()
        if not self._is(word):
            return first
        parts = [self._truth(first)]
        while self._accept(word):
            parts.append(self._truth(part()))
        return Logic(word, tuple(parts))

    def _negation(self) -> Node:
        if not self._accept("not"):
            return self._comparison()
        return self._deeper(lambda: Logic("not", (self._truth(self._negation()),)))

    def _comparison(self) -> Node:
        left, at = self._sum(), self._words[self._at][2]
        parts: list[Node] = []
        while self._words[self._at][1] in ORDERS and self._words[self._at][0] == "sign":
            at = self._words[self._at][2]
            order, right = self._next()[1], self._sum()
            parts.append(self._compare(order, left, right, at))
            left = right
        if parts:
            return parts[0] if len(parts) == 1 else Logic("and", tuple(parts))
        negative = self._is("not") and self._words[self._at + 1][1] == "in"
        if negative:
            self._next()
        if self._accept("in"):
            found = self._member(left, at)
            return Logic("not", (found,)) if negative else found
        return left

    def _member(self, left: Node, at: int) -> Node:
        self._expect("[")
        parts = [self._compare("==", left, self._sum(), at)]
        while self._accept(","):
            parts.append(self._compare("==", left, self._sum(), at))
        self._expect("]")
        return Logic("or", tuple(parts))

    def _compare(self, order: str, left: Node, right: Node, at: int) -> Node:
        """Returns a comparison, after checking that its sides can be compared."""
        kinds = [self._kind(side) for side in (left, right)]
        if "truth" in kinds:
            raise self._wrong("numbers or texts beside a comparison", at, "another comparison", "join them with and")
        if kinds == ["number", "number"]:
            return Comparison(order, left, right)
        left, right = self._as_choice(left, right), self._as_choice(right, left)
        kinds = [self._kind(side) for side in (left, right)]
        if kinds[0] != kinds[1]:
            got = f"{self._describe(left)} and {self._describe(right)}"
            remedy = "numbers compare with numbers, choices with texts in quotes, booleans with true and false"
            raise self._wrong("two values of one kind", at, got, remedy)
        if order not in ("==", "!="):
            got = f"{order} for {self._describe(left)}"
            raise self._wrong("== or != of choices, which have no order", at, got, "use == or in [...]")
        self._check_choices(left, right, at)
        return Comparison(order, left, right)

    def _as_choice(self, side: Node, other: Node) -> Node:
        """Returns a number as a label where it stands for one of the other side's choices ("3" of 3, 5, 7)."""
        if isinstance(side, Number) and isinstance(other, Place) and self._kind(other) == "text" and not side.places:
            return Label(str(side.whole))
        return side

    def _check_choices(self, left: Node, right: Node, at: int) -> None:
        for place, label in ((left, right), (right, left)):
            if isinstance(place, Place) and isinstance(label, Label) and not label.boolean:
                legal = self._positions[place.place].grid
                if label.text not in legal:
                    near = difflib.get_close_matches(label.text[:LONGEST], legal, n=1, cutoff=0.0) or legal
                    expected = f"a choice of {self._positions[place.place].name}"
                    raise self._wrong(expected, at, repr(label.text), f"did you mean: {near[0]}")

    def _sum(self) -> Node:
        return self._chain(("+", "-"), lambda: self._chain(("*",), self._signed))

    def _chain(self, signs: tuple[str, ...], part: Callable[[], Node]) -> Node:
        left = part()
        while self._words[self._at][0] == "sign" and self._words[self._at][1] in signs:
            at = self._words[self._at][2]
            sign, right = self._next()[1], part()
            for side in (left, right):
                if self._kind(side) != "number":
                    raise self._wrong(f"numbers beside {sign}", at, self._describe(side), "choices are not numbers")
            left = Arithmetic(sign, left, right)
        return left

    def _signed(self) -> Node:
        if not self._is("-"):
            return self._atom()
        at = self._next()[2]
        node = self._deeper(self._signed)
        if self._kind(node) != "number":
            raise self._wrong("a number behind -", at, self._describe(node), "choices are not numbers")
        return Number(-node.whole, node.places) if isinstance(node, Number) else Arithmetic("-", Number(0, 0), node)

    def _atom(self) -> Node:
        kind, word, at = self._words[self._at]
        if self._accept("("):
            node = self._deeper(self._either)
            self._expect(")")
            return node
        if kind == "name":
            self._next()
            if word not in self._places:
                near = difflib.get_close_matches(word[:LONGEST], list(self._places)[:1000], n=3, cutoff=0.4)
                remedy = f"did you mean: {', '.join(near)}" if near else "texts stand in quotes"
                raise self._wrong("the name of a position", at, repr(word), remedy)
            return Place(self._places[word])
        if kind == "number":
            self._next()
            return self._number(word, at)
        if kind == "text":
            self._next()
            return Label(word[1:-1])
        if word.lower() in ("true", "false"):
            self._next()
            return Label(word.lower(), boolean=True)
        raise self._unexpected("a name, number or text")

    def _number(self, word: str, at: int) -> Number:
        _, digits, exponent = Decimal(word).as_tuple()
        if len(digits) > LARGEST_EXPONENT or not isinstance(exponent, int) or abs(exponent) > LARGEST_EXPONENT:
            raise self._wrong(f"a number of at most {LARGEST_EXPONENT} digits", at, checks.shorten(word), "round it")
        return decimal(word)

    def _deeper(self, part: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(
                f"at most {DEEPEST} levels of parentheses and signs", self._words[self._at][2], "more", "simplify it"
            )
        node = part()
        self._depth -= 1
        return node

    def _truth(self, node: Node) -> Node:
        """Returns a node that is true or false: a boolean position is short for its comparison with true."""
        if isinstance(node, Place) and self._positions[node.place].boolean:
            return Comparison("==", node, Label("true", boolean=True))
        if not isinstance(node, Comparison | Logic):
            at = self._words[self._at][2]
            raise self._wrong("a comparison", at, f"{self._describe(node)} alone", "compare it with something")
        return node

    def _kind(self, node: Node) -> str:
        if isinstance(node, Place):
            position = self._positions[node.place]
            return "number" if position.ordered else "boolean" if position.boolean else "text"
        if isinstance(node, Label):
            return "boolean" if node.boolean else "text"
        return "truth" if isinstance(node, Comparison | Logic) else "number"

    def _describe(self, node: Node) -> str:
        if isinstance(node, Place):
            kind = {"number": "a number", "boolean": "a boolean", "text": "a choice"}[self._kind(node)]
            return f"{self._positions[node.place].name} ({kind})"
        if isinstance(node, Label):
            return node.text if node.boolean else repr(node.text)
        return "a comparison" if isinstance(node, Comparison | Logic) else "a number"

    def _is(self, word: str) -> bool:
        kind, here, _ = self._words[self._at]
        return here == word and kind in ("word", "sign")

    def _accept(self, word: str) -> bool:
        found = self._is(word)
        self._at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._unexpected(repr(word))

    def _next(self) -> tuple[str, str, int]:
        self._at += 1
        return self._words[self._at - 1]

    def _unexpected(self, expected: str) -> checks.UsageError:
        kind, word, at = self._words[self._at]
        return self._wrong(expected, at, "the end" if kind == "end" else repr(word), "see docs/spaces-of-your-own.md")

    def _wrong(self, expected: str, at: int, got: str, remedy: str) -> checks.UsageError:
        where = f"at character {at + 1} of {checks.shorten(self._text)!r}"
        return checks.UsageError(expected=f"{expected} {where}", got=got, remedy=remedy)
