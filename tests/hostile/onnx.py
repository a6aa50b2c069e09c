"""An ONNX graph in a few bytes: the package that writes them is installed for training only."""


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message of protocol buffers."""
    if isinstance(value, int):
        return bytes([number << 3]) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head, value = head + bytes([value & 127 | 128]), value >> 7
    return head + bytes([value])


def _tensor(name: str, size: int) -> bytes:
    """Float32, of shape (batch, size)."""
    shape = _field(1, _field(2, "batch")) + _field(1, _field(1, size))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def graph(name: str, inputs: int, outputs: int) -> bytes:
    """A graph from (batch, inputs) to (batch, outputs): the largest input, or the inputs themselves."""
    if inputs == outputs:
        node = _field(1, name) + _field(2, "actions") + _field(4, "Identity")
    else:
        axes = _field(1, "axes") + _varint(20 << 3) + _varint(7) + _field(8, 1)
        node = _field(1, name) + _field(2, "actions") + _field(4, "ReduceMax") + _field(5, axes)
    body = _field(1, node) + _field(2, "policy") + _field(11, _tensor(name, inputs))
    body += _field(12, _tensor("actions", outputs))
    return _field(1, 8) + _field(7, body) + _field(8, _field(2, 13))
