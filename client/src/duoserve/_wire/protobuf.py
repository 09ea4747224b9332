"""The part of protobuf's wire format that the hot path needs. No messages, no I/O."""


class CodecError(ValueError):
    """Bytes that are not such a message, or an array that a TensorProto can't hold."""


def varint(value: int) -> bytes:
    """A non-negative integer in protobuf's base-128 form."""
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(field: int, payload: bytes) -> bytes:
    """One field of wire type 2 (string, bytes, message)."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def split(data: bytes, start: int, end: int) -> list[tuple[int, int, int]]:
    """Every field of the message in data[start:end]: tag, and where its content starts and ends.

    A tag is the field number times eight plus the wire type. A varint comes as (tag, value, 0).
    """
    found = []
    while start < end:
        tag = data[start]
        start += 1
        if tag >= 0x80:
            tag, start = read_varint(data, start - 1, end)
        kind = tag & 7
        # Almost every length and value fits one byte; the general case costs a call.
        if kind == 2:
            if start < end and data[start] < 0x80:
                stop = start + 1 + data[start]
                start += 1
            else:
                size, start = read_varint(data, start, end)
                stop = start + size
        elif kind == 0:
            if start < end and data[start] < 0x80:
                found.append((tag, data[start], 0))
                start += 1
            else:
                value, start = read_varint(data, start, end)
                found.append((tag, value, 0))
            continue
        elif kind == 5 or kind == 1:
            stop = start + (4 if kind == 5 else 8)
        else:
            raise CodecError(f"Expected a protobuf message. Received: wire type {kind} at byte {start}")
        if stop > end:
            raise CodecError(f"Expected {stop - start} more bytes of a protobuf message. Received: {end - start}")
        found.append((tag, start, stop))
        start = stop
    return found


def read_varint(data: bytes | memoryview, position: int, end: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise CodecError("Expected a protobuf message. Received: one that ends within a varint")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise CodecError("Expected a protobuf message. Received: a varint of more than ten bytes")
