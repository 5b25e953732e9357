"""Recursive descent from text to tree.

::

    filter     = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" filter ")" | comparison
    comparison = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" ) value
               | field [ "not" ] "in" "(" value { "," value } ")"
               | field "in" "last" duration
               | field "is" ( "present" | "missing" )
    field      = name { "." name } { "[" string "]" } [ "." part ]
    value      = string | word

Words of the grammar are written in either case. What a value means is decided by the field's type, here, so that an
error knows its place in the text.
"""

from __future__ import annotations

from tracekeeper.store.filter.fields import CONTAINS, ORDER, RECORDS, SCORE_PARTS, Field, Vocabulary, nearest
from tracekeeper.store.filter.lexer import Token, tokens
from tracekeeper.store.filter.nodes import (
    KEYWORDS,
    Ago,
    And,
    Compare,
    Node,
    Not,
    OneOf,
    Or,
    Presence,
    Reference,
    Value,
    quote,
)
from tracekeeper.store.filter.times import looks_like_duration, parse_duration
from tracekeeper.store.filter.values import read_value
from tracekeeper.types import FilterError

MAX_DEPTH = 30
"""Parentheses and ``not`` within each other."""

MAX_COMPARISONS = 200
"""Comparisons in one filter: what every database compiles without running into a limit of its own."""


def parse(text: str, vocabulary: Vocabulary = RECORDS) -> Node:
    """The tree of a filter.

    Parameters
    ----------
    text:
        The filter.
    vocabulary:
        What is filtered: records (and spans), or items of a dataset.

    Raises
    ------
    FilterError
        When it does not parse or compares what does not compare; with the position and, where one is near, a
        suggestion.

    Example
    -------
    >>> print(parse("status = error and not (latency < 2s or user is missing)"))
    status = "error" and not (latency < 2s or user is missing)
    """
    return _Parser(text, vocabulary).filter()


def field_of(reference: Reference, vocabulary: Vocabulary = RECORDS) -> Field:
    """The entry in the table of fields for a reference."""
    if reference.name == "score" and reference.part:
        return SCORE_PARTS[reference.part]
    return vocabulary.by_name[reference.name]


class _Parser:
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text = text
        self.vocabulary = vocabulary
        self.known = vocabulary.by_name
        self.tokens = tokens(text)
        self.index = 0
        self.depth = 0
        self.comparisons = 0

    # Looking at tokens.

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self.index += 1
        return token

    def is_word(self, *words: str) -> bool:
        return self.token.kind == "word" and self.token.text.lower() in words

    def expect(self, kind: str, message: str) -> Token:
        if self.token.kind != kind:
            raise self.error(message)
        return self.take()

    def error(self, message: str, token: Token | None = None) -> FilterError:
        token = token or self.token
        found = "" if token.kind != "end" else " (the filter ends here)"
        return FilterError(f"{message}{found}", text=self.text, position=token.position)

    # The grammar, from the outside in.

    def filter(self) -> Node:
        if self.token.kind == "end":
            raise self.error("the filter is empty")
        node = self.any()
        if self.token.kind != "end":
            raise self.error(self.unexpected())
        return node

    def any(self) -> Node:
        terms = [self.all()]
        while self.is_word("or"):
            self.take()
            terms.append(self.all())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def all(self) -> Node:
        terms = [self.one()]
        while self.is_word("and"):
            self.take()
            terms.append(self.one())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def one(self) -> Node:
        if not (self.is_word("not") or self.token.kind == "("):
            return self.comparison()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"this filter is nested too deeply: at most {MAX_DEPTH} levels are allowed")
        node: Node
        if self.take().kind == "(":
            node = self.any()
            if self.token.kind != ")":
                raise self.error("expected a closing )" if self.token.kind == "end" else self.unexpected())
            self.take()
        else:
            node = Not(self.one())
        self.depth -= 1
        return node

    def comparison(self) -> Node:
        self.comparisons += 1
        if self.comparisons > MAX_COMPARISONS:
            raise self.error(f"this filter is too long: at most {MAX_COMPARISONS} comparisons are allowed")
        reference = self.reference()
        field = field_of(reference, self.vocabulary)
        if self.is_word("is"):
            self.take()
            return self.presence(reference)
        if self.is_word("in") or (self.is_word("not") and self.tokens[self.index + 1].text.lower() == "in"):
            return self.one_of(reference, field)
        operator = self.operator(field)
        return Compare(reference, operator, self.value(reference, operator))

    def operator(self, field: Field) -> str:
        token = self.token
        if token.kind != "operator":
            known = " ".join(field.operators)
            if token.kind == "word" and token.text.lower() in ("contains", "like", "ilike", "matches", "has"):
                raise self.error(f"unknown operator {token.text!r}; did you mean '~'?")
            raise self.error(f"expected an operator after {field.name}: {known}, is present, is missing")
        if token.text not in field.operators:
            raise self.error(self.wrong_operator(field, token.text))
        return self.take().text

    def wrong_operator(self, field: Field, operator: str) -> str:
        if operator in CONTAINS:
            hint = f"{field.name} is not text"
        elif operator in ORDER:
            hint = f"{field.name} has no order"
        else:
            hint = f"a {field.type} is hardly ever met exactly, so ask for a range"
        return f"{field.name} cannot be compared with {operator!r}: {hint} (it takes {' '.join(field.operators)})"

    def one_of(self, reference: Reference, field: Field) -> Node:
        negated = self.is_word("not")
        start = self.take()
        if negated:
            self.take()
        if self.is_word("last") and field.type == "time" and not negated:
            self.take()
            return Compare(reference, ">", self.last())
        if "in" not in field.operators:
            raise self.error(f"{field.name} cannot be compared with 'in' (it takes {' '.join(field.operators)})", start)
        self.expect("(", f'expected ( after "in", as in {field.name} in ("a", "b")')
        values = [self.value(reference, "=")]
        while self.token.kind == ",":
            self.take()
            values.append(self.value(reference, "="))
        self.expect(")", "expected , or ) in the list of values")
        return OneOf(reference, tuple(values), negated)

    def last(self) -> Ago:
        token = self.take()
        try:
            if token.kind == "word" and looks_like_duration(token.text):
                return Ago(parse_duration(token.text))
        except ValueError as error:
            raise self.error(str(error), token) from None
        raise self.error("expected a duration after last, such as 2h or 7d", token)

    def presence(self, reference: Reference) -> Node:
        token = self.take()
        word = token.text.lower() if token.kind == "word" else ""
        if word in ("present", "missing"):
            return Presence(reference, word == "present")
        if word == "not":
            raise self.error("after is comes present or missing; did you mean 'is present'?", token)
        hint = {"null": "missing", "none": "missing", "empty": "missing", "set": "present", "defined": "present"}.get(
            word
        )
        hint = hint or nearest(word, ("present", "missing"))
        suggestion = f"; did you mean {hint!r}?" if hint else ""
        raise self.error(f"after is comes present or missing{suggestion}", token)

    # Fields and values.

    def reference(self) -> Reference:
        token = self.token
        if token.kind != "word" or token.text.lower() in KEYWORDS:
            raise self.error(f"expected a field such as {self.some_fields()}")
        self.take()
        path = token.text
        root, dot, rest = path.partition(".")
        name = root.lower()
        keyed = name in self.known and self.known[name].keys is not False
        if path.lower() in self.known and not keyed:
            return self.plain(path.lower(), token)
        if not keyed or (dot and not rest):
            raise self.error(self.unknown_field(path), token)
        if name == "score":
            return self.score(token, rest)
        keys = [rest] if rest else []
        keys += self.keys()
        if not keys and self.known[name].keys:
            raise self.error(f'{name} needs a key, as in {name}["k"]', token)
        if self.token.kind == "word" and self.token.text.startswith(".") and keys:
            further = quote(self.token.text[1:])
            raise self.error(f'write a further key in brackets: {name}["…"][{further}]')
        return Reference(name, tuple(keys), position=token.position)

    def plain(self, name: str, token: Token) -> Reference:
        if self.token.kind == "[":
            raise self.error(f"{name} has no keys")
        return Reference(name, position=token.position)

    def score(self, token: Token, rest: str) -> Reference:
        """``score.NAME``, ``score.NAME.part``, ``score["name"]``, ``score["name"].part``."""
        names = self.keys()
        part = ""
        if names and not rest:
            name = names[0]
            if self.token.kind == "word" and self.token.text.startswith("."):
                part = self.take().text[1:]
                if part.lower() not in SCORE_PARTS:
                    raise self.error(self.unknown_part(part), self.tokens[self.index - 1])
        else:
            name, dot, part = rest.rpartition(".")
            if not dot or part.lower() not in SCORE_PARTS:
                name, part = rest, ""
        if not name or len(names) > 1 or (names and rest) or (not names and name.endswith(".")):
            raise self.error('a score has one name: score.groundedness or score["my metric"]', token)
        return Reference("score", (name,), part.lower(), position=token.position)

    def keys(self) -> list[str]:
        found = []
        while self.token.kind == "[":
            self.take()
            found.append(self.expect("string", 'expected a quoted key, as in ["user.tier"]').text)
            self.expect("]", "expected a closing ]")
        return found

    def value(self, reference: Reference, operator: str) -> Value:
        token = self.token
        field = field_of(reference, self.vocabulary)
        if token.kind not in ("word", "string"):
            raise self.error(f"expected a value to compare {field.name} with")
        if token.kind == "word" and token.text.lower() in KEYWORDS:
            raise self.error(
                f'expected a value to compare {field.name} with; quote it if you mean the word: "{token.text}"'
            )
        self.take()
        try:
            return read_value(field, bool(reference.keys), operator, token)
        except ValueError as error:
            raise self.error(str(error), token) from None

    # Saying what is wrong.

    def unexpected(self) -> str:
        token = self.token
        before = self.tokens[self.index - 1]
        if token.kind == "word" and before.kind == "word":
            if token.text.lower() == "xor" or nearest(token.text, ("and", "or")):
                return f"expected and, or, or the end of the filter, not {token.text!r}"
            return (
                f'expected and, or, or the end of the filter; quote a text with spaces: "{before.text} {token.text}…"'
            )
        if token.kind == ")":
            return "this ) closes nothing"
        return f"expected and, or, or the end of the filter, not {token.text!r}"

    def some_fields(self) -> str:
        return "status, latency or score.NAME" if self.vocabulary is RECORDS else "tag, split or input.NAME"

    def unknown_field(self, path: str) -> str:
        guess = self.vocabulary.nearest(path)
        if guess is None and path.isidentifier():
            return f"unknown field {path!r}; {self.vocabulary.unknown.format(path)}"
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(self.known)}"
        return f"unknown field {path!r}; {hint}"

    def unknown_part(self, part: str) -> str:
        guess = nearest(part, tuple(SCORE_PARTS))
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(SCORE_PARTS)}"
        return f"a score has no {part!r}; {hint}"
