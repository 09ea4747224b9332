"""Text protos as a tree with the position of every part; comments are kept.

`google.protobuf.text_format` reads values without positions. The checks report the line of a
mistake, and the rollout changes one number in a hand-written file: both need positions. The
checks also must not need protobuf.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

__all__ = ["Field", "Message", "Scalar", "TextProtoError", "parse"]

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<name>\[[A-Za-z_][\w./\-]*\](?=\s*[:{<])|[A-Za-z_]\w*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fF]?)
      | (?P<mark>[{}<>\[\]:,;\-])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "?": "?"}
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_DEEPEST = 100


class TextProtoError(ValueError):
    """The text is not a text proto, or not one of the expected message.

    Attributes:
        line: The line, counted from 1; 0 if there is no single one.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """A value: a string, a number or a word.

    Attributes:
        value: A string without quotes and escapes, a number, or the word of an enum or bool.
        quoted: It is a string.
        start: First character in the text.
        end: The one after its last.
    """

    value: str | int | float
    quoted: bool
    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One entry of a message. A list `name: [1, 2]` is one field for each element, as in protobuf.

    Attributes:
        name: As written.
        value: Its value.
        start: First character of the name; that of the element, after the first of a list.
        end: The one after its last character, including a following `,` or `;`.
        line: Counted from 1.
        listed: It is written as an element of a list.
    """

    name: str
    value: Scalar | Message
    start: int
    end: int
    line: int
    listed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """Fields between braces, or a whole file.

    Attributes:
        fields: In the order of the text.
        start: First character inside the braces.
        end: The closing brace, or the end of the text.
    """

    fields: tuple[Field, ...]
    start: int
    end: int

    def all(self, name: str) -> list[Field]:
        """Every field of this name."""
        return [field for field in self.fields if field.name == name]

    def messages(self, name: str) -> list[tuple[Field, Message]]:
        """Every field of this name with its message.

        Raises:
            TextProtoError: One does not hold a message.
        """
        return [(field, _message(field)) for field in self.all(name)]

    def message(self, name: str) -> tuple[Field, Message] | None:
        """The one field of this name with its message; None without one.

        Raises:
            TextProtoError: It occurs twice, or does not hold a message.
        """
        field = self._single(name)
        return None if field is None else (field, _message(field))

    def text(self, name: str, default: str = "") -> str:
        """The string of this name.

        Raises:
            TextProtoError: It occurs twice, or is not a string.
        """
        field = self._single(name)
        if field is None:
            return default
        if not isinstance(field.value, Scalar) or not field.value.quoted:
            raise TextProtoError(f"Expected {name} to be a string in quotes. Received: {_shown(field)}", field.line)
        return str(field.value.value)

    def integer(self, name: str, default: int | None = None) -> int | None:
        """The integer of this name.

        Raises:
            TextProtoError: It occurs twice, or is not an integer.
        """
        field = self._single(name)
        return default if field is None else integer(field)

    def _single(self, name: str) -> Field | None:
        found = self.all(name)
        if len(found) > 1:
            raise TextProtoError(f"Expected {name} once. Received: {name} again", found[1].line)
        return found[0] if found else None


def integer(field: Field) -> int:
    """The integer that a field holds.

    Raises:
        TextProtoError: It holds something else.
    """
    value = field.value.value if isinstance(field.value, Scalar) else None
    if not isinstance(value, int):
        raise TextProtoError(f"Expected {field.name} to be an integer. Received: {_shown(field)}", field.line)
    return value


def parse(text: str) -> Message:
    """Reads a text proto without knowing its schema.

    Raises:
        TextProtoError: With the line where reading stopped.
    """
    return _Parser(text).whole()


def _message(field: Field) -> Message:
    if not isinstance(field.value, Message):
        raise TextProtoError(f"Expected {field.name} {{ ... }}. Received: {_shown(field)}", field.line)
    return field.value


def _shown(field: Field) -> str:
    return f"{field.value.value!r}" if isinstance(field.value, Scalar) else "{ ... }"


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0
        self._depth = 0

    def _scan(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                shown = self._text[position : position + 20].splitlines()[0]
                raise TextProtoError(f"Expected a text proto. Received: {shown!r}", self._line(position))
            kind = match.lastgroup or ""
            if kind not in ("space", "comment"):
                yield _Token(kind, match.group(), match.start(), match.end())
            position = match.end()

    def _line(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def _peek(self) -> _Token:
        if self._at < len(self._tokens):
            return self._tokens[self._at]
        return _Token("end", "the end", len(self._text), len(self._text))

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, *marks: str) -> _Token | None:
        token = self._peek()
        if token.kind == "mark" and token.text in marks:
            self._at += 1
            return token
        return None

    def _wrong(self, expected: str, token: _Token) -> TextProtoError:
        return TextProtoError(f"Expected {expected}. Received: {token.text}", self._line(token.start))

    def whole(self) -> Message:
        fields = self._fields()
        if self._peek().kind != "end":
            raise self._wrong("a field name", self._peek())
        return Message(tuple(fields), 0, len(self._text))

    def _fields(self) -> list[Field]:
        fields: list[Field] = []
        while self._peek().kind == "name":
            fields += self._field()
        return fields

    def _field(self) -> list[Field]:
        name = self._next()
        colon = self._take(":")
        bracket = self._take("[")
        if bracket is None:
            value = self._value(name.text, colon is not None)
            mark = self._take(",", ";")
            end = mark.end if mark else _end_of(value)
            return [Field(name.text, value, name.start, end, self._line(name.start))]
        fields: list[Field] = []
        while self._take("]") is None:
            if fields and self._take(",") is None:
                raise self._wrong(f"a comma or ] in the list of {name.text}", self._peek())
            start = self._peek().start
            value = self._value(name.text, colon is not None)
            fields.append(Field(name.text, value, start, _end_of(value), self._line(start), listed=True))
        self._take(",", ";")
        return fields

    def _value(self, name: str, colon: bool) -> Scalar | Message:
        opened = self._take("{", "<")
        if opened is not None:
            return self._braces(opened)
        if not colon:
            raise self._wrong(f"a colon or an opening brace after {name}", self._peek())
        return self._scalar(name)

    def _braces(self, opened: _Token) -> Message:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"at most {_DEEPEST} nested braces", opened)
        fields = self._fields()
        closing = self._take("}" if opened.text == "{" else ">")
        if closing is None:
            raise self._wrong(f"a field name or a closing brace for line {self._line(opened.start)}", self._peek())
        self._depth -= 1
        return Message(tuple(fields), opened.end, closing.start)

    def _scalar(self, name: str) -> Scalar:
        minus = self._take("-")
        token = self._next()
        start = minus.start if minus else token.start
        if token.kind == "number":
            number = _number(token.text)
            return Scalar(-number if minus else number, False, start, token.end)
        if token.kind == "name" and not token.text.startswith("["):
            return Scalar(("-" if minus else "") + token.text, False, start, token.end)
        if token.kind != "string" or minus:
            raise self._wrong(f"a value for {name}", token)
        parts, end = [token.text], token.end
        while self._peek().kind == "string":  # as in C, adjacent strings are joined
            following = self._next()
            parts.append(following.text)
            end = following.end
        return Scalar("".join(_unquote(part) for part in parts), True, start, end)


def _end_of(value: Scalar | Message) -> int:
    return value.end + 1 if isinstance(value, Message) else value.end


def _number(text: str) -> int | float:
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"0[0-7]+", text):
        return int(text, 8)
    if re.fullmatch(r"\d+", text):
        return int(text)
    return float(text.rstrip("fF"))


def _unquote(text: str) -> str:
    """The characters of a quoted string; escaped bytes are UTF-8."""
    pieces: list[bytes] = []
    position = 1
    for match in _ESCAPE.finditer(text, 1, len(text) - 1):
        pieces.append(text[position : match.start()].encode("utf-8", "surrogatepass"))
        octal, hexadecimal, short, long, other = match.groups()
        if octal or hexadecimal:
            pieces.append(bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)]))
        elif short or long:
            pieces.append(_character(int(short or long, 16)))
        else:
            pieces.append(_ESCAPES.get(other, other).encode("utf-8", "surrogatepass"))
        position = match.end()
    pieces.append(text[position:-1].encode("utf-8", "surrogatepass"))
    return b"".join(pieces).decode("utf-8", "replace")


def _character(code: int) -> bytes:
    return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b"\xef\xbf\xbd"
