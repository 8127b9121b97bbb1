"""Writes an ONNX file with nothing but Python's standard library: what the exports of the examples share.

An ONNX file is a Protocol Buffers message of which little is used here, so `Message` writes the bytes itself; they are
the same on every machine, and the scripts hold them to a digest.
"""

import struct

# TensorProto.DataType and AttributeProto.AttributeType of onnx.proto.
FLOAT, INT64 = 1, 7
A_FLOAT, A_INT, A_INTS = 1, 2, 7


class Message:
    """A Protocol Buffers message, written field by field."""

    def __init__(self):
        self.bytes = bytearray()

    def varint(self, value):
        value &= (1 << 64) - 1
        while value > 0x7F:
            self.bytes.append(value & 0x7F | 0x80)
            value >>= 7
        self.bytes.append(value)

    def integer(self, field, value):
        self.varint(field << 3)
        self.varint(value)
        return self

    def float(self, field, value):
        self.varint(field << 3 | 5)
        self.bytes += struct.pack("<f", value)
        return self

    def put(self, field, value):
        """Text, bytes or a message."""
        value = value.encode() if isinstance(value, str) else getattr(value, "bytes", value)
        self.varint(field << 3 | 2)
        self.varint(len(value))
        self.bytes += value
        return self


class Graph:
    """A graph under construction. Every operation has the name of its one output."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def constant(self, name, shape, kind, data):
        self.constants[name] = (shape, kind, bytes(data))
        return name

    def weight(self, name, tensor):
        shape, data = tensor
        return self.constant(name, shape, FLOAT, data)

    def scalar(self, name, value):
        return self.constant(name, [], FLOAT, struct.pack("<f", value))

    def integers(self, name, values):
        return self.constant(name, [len(values)], INT64, struct.pack(f"<{len(values)}q", *values))

    def op(self, kind, inputs, output, **attributes):
        node = Message()
        for name in inputs:
            node.put(1, name)
        node.put(2, output).put(3, output).put(4, kind)
        for name, value in sorted(attributes.items()):
            attribute = Message().put(1, name)
            if isinstance(value, float):
                attribute.float(2, value).integer(20, A_FLOAT)
            elif isinstance(value, int):
                attribute.integer(3, value).integer(20, A_INT)
            else:
                for item in value:
                    attribute.integer(8, item)
                attribute.integer(20, A_INTS)
            node.put(5, attribute)
        self.nodes.append(node)
        return output

    def model(self, name, inputs, outputs):
        graph = Message()
        for node in self.nodes:
            graph.put(1, node)
        graph.put(2, name)
        for constant, (shape, kind, data) in self.constants.items():
            tensor = Message()
            for size in shape:
                tensor.integer(1, size)
            graph.put(5, tensor.integer(2, kind).put(8, constant).put(9, data))
        for field, ports in ((11, inputs), (12, outputs)):
            for port, kind, dimensions in ports:
                shape = Message()
                for size in dimensions:
                    one = Message()
                    shape.put(1, one.put(2, size) if isinstance(size, str) else one.integer(1, size))
                tensor = Message().put(1, Message().integer(1, kind).put(2, shape))
                graph.put(field, Message().put(1, port).put(2, tensor))
        operators = Message().put(1, "").integer(2, 17)
        return Message().integer(1, 8).put(2, "aegis-examples").put(7, graph).put(8, operators).bytes
