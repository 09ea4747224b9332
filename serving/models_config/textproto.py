"""Text protos as a tree with the position of every part; comments are kept.

`google.protobuf.text_format` reads values without positions. The checks report the line of a
mistake, and the rollout changes one number in a hand-written file: both need positions. The
checks also must not need protobuf.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<name>\[[A-Za-z_][\w./\-]*\](?=\s*[:{<])|[A-Za-z_]\w*)
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fF]?)
      | (?P<mark>[{}<>\[\]:,;\-])
      | (?P<end>\Z)""",
    re.VERBOSE | re.ASCII,
)
_Token = re.Match[str]
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
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
    """A string without quotes and escapes, a number, or the word of an enum or bool; where it starts and ends."""

    value: str | int | float
    quoted: bool
    start: int
    end: int


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One entry of a message. A list `name: [1, 2]` is one field for each element, as in protobuf.

    Attributes:
        start: First character of the name; that of the element in a list.
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
    """Fields between braces, or a whole file. `start` and `end` are those of the text inside the braces.

    The methods raise TextProtoError for a field of another kind, and all but the first two for one that occurs twice.
    """

    fields: tuple[Field, ...]
    start: int
    end: int

    def all(self, name: str) -> list[Field]:
        """Every field of this name."""
        return [field for field in self.fields if field.name == name]

    def messages(self, name: str) -> list[tuple[Field, Message]]:
        """Every field of this name with its message."""
        return [(field, _message(field)) for field in self.all(name)]

    def message(self, name: str) -> tuple[Field, Message] | None:
        """The one field of this name with its message; None without one."""
        field = self._single(name)
        return None if field is None else (field, _message(field))

    def text(self, name: str) -> str:
        """The string of this name; empty without one."""
        field = self._single(name)
        if field is None:
            return ""
        if not isinstance(field.value, Scalar) or not field.value.quoted:
            raise TextProtoError(f"Expected {name} to be a string in quotes. Received: {_shown(field)}", field.line)
        return str(field.value.value)

    def integer(self, name: str, default: int | None = None) -> int | None:
        """The integer of this name."""
        field = self._single(name)
        return default if field is None else integer(field)

    def _single(self, name: str) -> Field | None:
        found = self.all(name)
        if len(found) > 1:
            raise TextProtoError(f"Expected {name} once. Received: {name} again", found[1].line)
        return found[0] if found else None


def integer(field: Field) -> int:
    """The integer that a field holds; TextProtoError if it holds something else."""
    value = field.value.value if isinstance(field.value, Scalar) else None
    if not isinstance(value, int):
        raise TextProtoError(f"Expected {field.name} to be an integer. Received: {_shown(field)}", field.line)
    return value


def parse(text: str) -> Message:
    """Reads a text proto without knowing its schema; TextProtoError has the line where reading stopped."""
    return _Parser(text).whole()


def _message(field: Field) -> Message:
    if not isinstance(field.value, Message):
        raise TextProtoError(f"Expected {field.name} {{ ... }}. Received: {_shown(field)}", field.line)
    return field.value


def _shown(field: Field) -> str:
    return f"{field.value.value!r}" if isinstance(field.value, Scalar) else "{ ... }"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0
        self._depth = 0

    def whole(self) -> Message:
        fields = self._fields()
        if self._next_token().lastgroup != "end":
            raise self._wrong("a field name")
        return Message(fields, 0, len(self._text))

    def _scan(self) -> Iterator[_Token]:
        match: _Token | None = None
        while match is None or match.lastgroup != "end":
            position = match.end() if match else 0
            match = _TOKEN.match(self._text, position)
            if match is None:
                shown = self._text[position : position + 20].splitlines()[0]
                raise TextProtoError(f"Expected a text proto. Received: {shown!r}", self._line(position))
            if match.lastgroup not in ("space", "comment"):
                yield match

    def _line(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def _next_token(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, kind: str, *texts: str) -> _Token | None:
        """Takes the next token if it is of a kind, and one of some texts."""
        token = self._next_token()
        if token.lastgroup != kind or (texts and token.group() not in texts):
            return None
        self._at += 1
        return token

    def _wrong(self, expected: str) -> TextProtoError:
        token = self._next_token()
        return TextProtoError(f"Expected {expected}. Received: {token.group() or 'the end'}", self._line(token.start()))

    def _fields(self) -> tuple[Field, ...]:
        fields: list[Field] = []
        while (name := self._take("name")) is not None:
            fields += self._field(name)
        return tuple(fields)

    def _field(self, token: _Token) -> list[Field]:
        name = token.group()
        colon = self._take("mark", ":") is not None
        if self._take("mark", "[") is None:
            value = self._value(name, colon)
            mark = self._take("mark", ",", ";")
            end = mark.end() if mark else _end_of(value)
            return [Field(name, value, token.start(), end, self._line(token.start()))]
        fields: list[Field] = []
        while self._take("mark", "]") is None:
            if fields and self._take("mark", ",") is None:
                raise self._wrong(f"a comma or ] in the list of {name}")
            start = self._next_token().start()
            value = self._value(name, colon)
            fields.append(Field(name, value, start, _end_of(value), self._line(start), listed=True))
        self._take("mark", ",", ";")
        return fields

    def _value(self, name: str, colon: bool) -> Scalar | Message:
        opened = self._take("mark", "{", "<")
        if opened is not None:
            return self._braces(opened)
        if not colon:
            raise self._wrong(f"a colon or an opening brace after {name}")
        return self._scalar(name)

    def _braces(self, opened: _Token) -> Message:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"at most {_DEEPEST} nested braces")
        fields = self._fields()
        closing = self._take("mark", "}" if opened.group() == "{" else ">")
        if closing is None:
            raise self._wrong(f"a field name or a closing brace for line {self._line(opened.start())}")
        self._depth -= 1
        return Message(fields, opened.end(), closing.start())

    def _scalar(self, name: str) -> Scalar:
        start = self._next_token().start()
        sign = "-" if self._take("mark", "-") else ""
        if number := self._take("number"):
            value = _number(number.group())
            return Scalar(-value if sign else value, False, start, number.end())
        if not self._next_token().group().startswith("[") and (word := self._take("name")):
            return Scalar(sign + word.group(), False, start, word.end())
        parts: list[_Token] = []
        while not sign and (part := self._take("string")):  # as in C, adjacent strings are joined
            parts.append(part)
        if not parts:
            raise self._wrong(f"a value for {name}")
        return Scalar("".join(_unquote(part.group()) for part in parts), True, start, parts[-1].end())


def _end_of(value: Scalar | Message) -> int:
    return value.end + 1 if isinstance(value, Message) else value.end


def _number(text: str) -> int | float:
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"\d+", text):
        return int(text, 8 if re.fullmatch(r"0[0-7]+", text) else 10)
    return float(text.rstrip("fF"))


def _unquote(text: str) -> str:
    """The characters of a quoted string; escaped bytes are UTF-8."""
    data = text[1:-1].encode("utf-8", "surrogatepass")
    return _ESCAPE.sub(_unescape, data).decode("utf-8", "replace")


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, other = match.groups()
    if octal or hexadecimal:
        return bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)])
    if short or long:
        code = int(short or long, 16)
        return chr(code if code < 0x110000 else 0xFFFD).encode("utf-8", "surrogatepass")
    return _ESCAPES.get(other, other)
