"""Writes all-MiniLM-L6-v2 as ONNX: python3 export.py MODEL_FOLDER OUT.onnx

The folder holds `config.json` and `model.safetensors`. Inputs are i64 [batch, sequence]; the output,
`sentence_embedding`, is f32 [batch, 384]: the mean of the tokens that the mask leaves, at length 1.

It needs Python's standard library and nothing else; scripts/embeddings.sh holds what it writes to a digest.
"""

import array
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "minilm"))
from onnx_writer import FLOAT, INT64, Graph  # noqa: E402


class Weights:
    """A safetensors file: a header of JSON, then the tensors' bytes. All that are wanted here are f32."""

    def __init__(self, path):
        self.data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", self.data)
        self.header = json.loads(self.data[8 : 8 + length])
        self.start = 8 + length

    def get(self, name):
        tensor = self.header[name]
        if tensor["dtype"] != "F32":
            sys.exit(f"export: {name} is {tensor['dtype']}, not F32")
        begin, end = tensor["data_offsets"]
        return tensor["shape"], self.data[self.start + begin : self.start + end]

    def transposed(self, name):
        (rows, columns), data = self.get(name)
        values = array.array("f", data)
        out = array.array("f")
        for column in range(columns):
            out += values[column::columns]
        return [columns, rows], out.tobytes()


def build(weights, config):
    """BERT as the paper has it, then the mean over tokens and a norm of 1."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    epsilon = float(config["layer_norm_eps"])
    g = Graph()
    op = g.op

    def linear(x, path, out):
        w = g.weight(out + "_w", weights.transposed(path + ".weight"))
        product = op("MatMul", [x, w], out + "_mm")
        return op("Add", [product, g.weight(out + "_b", weights.get(path + ".bias"))], out)

    def norm(x, path, out):
        scale = g.weight(out + "_g", weights.get(path + ".weight"))
        bias = g.weight(out + "_b", weights.get(path + ".bias"))
        return op("LayerNormalization", [x, scale, bias], out, axis=-1, epsilon=epsilon)

    def embedding(name, indices, out):
        table = g.weight(out + "_w", weights.get(f"embeddings.{name}_embeddings.weight"))
        return op("Gather", [table, indices], out)

    zero, one, two = g.integers("i0", [0]), g.integers("i1", [1]), g.integers("i2", [2])
    sequence = op("Slice", [op("Shape", ["input_ids"], "shape"), one, two, zero], "sequence")
    positions = g.weight("positions", weights.get("embeddings.position_embeddings.weight"))
    position = op("Slice", [positions, zero, sequence, zero], "position")
    words = embedding("word", "input_ids", "words")
    types = embedding("token_type", "token_type_ids", "types")
    x = op("Add", [op("Add", [words, types], "words_types"), position], "embedded")
    x = norm(x, "embeddings.LayerNorm", "x0")

    # What the mask leaves out gets a score so low that softmax makes it 0.
    mask = op("Cast", ["attention_mask"], "mask", to=FLOAT)
    mask4 = op("Unsqueeze", [mask, g.integers("i12", [1, 2])], "mask4")
    unit = g.scalar("unit", 1.0)
    hidden_score = op("Mul", [op("Sub", [unit, mask4], "masked"), g.scalar("low", -1e9)], "bias")
    scale = g.scalar("scale", (hidden // heads) ** -0.5)
    half, root = g.scalar("half", 0.5), g.scalar("root", 2**-0.5)
    split = g.integers("split", [0, 0, heads, hidden // heads])
    merge = g.integers("merge", [0, 0, hidden])

    for layer in range(config["num_hidden_layers"]):
        path, k = f"encoder.layer.{layer}.", f"l{layer}_"

        def head(name, order):
            projected = linear(x, f"{path}attention.self.{name}", k + name)
            parted = op("Reshape", [projected, split], f"{k}{name}_r")
            return op("Transpose", [parted], f"{k}{name}_t", perm=order)

        query, value = head("query", [0, 2, 1, 3]), head("value", [0, 2, 1, 3])
        scores = op("MatMul", [query, head("key", [0, 2, 3, 1])], k + "scores")
        scores = op("Add", [op("Mul", [scores, scale], k + "scaled"), hidden_score], k + "biased")
        attention = op("Softmax", [scores], k + "attention", axis=-1)
        mixed = op("MatMul", [attention, value], k + "mixed")
        mixed = op("Transpose", [mixed], k + "mixed_t", perm=[0, 2, 1, 3])
        mixed = op("Reshape", [mixed, merge], k + "context")
        out = linear(mixed, path + "attention.output.dense", k + "out")
        x = norm(op("Add", [out, x], k + "sum1"), path + "attention.output.LayerNorm", k + "norm1")

        # GELU, by the error function.
        inner = linear(x, path + "intermediate.dense", k + "inner")
        erf = op("Erf", [op("Mul", [inner, root], k + "inner_root")], k + "erf")
        gate = op("Add", [erf, unit], k + "gate")
        inner = op("Mul", [op("Mul", [inner, half], k + "inner_half"), gate], k + "gelu")
        out = linear(inner, path + "output.dense", k + "out2")
        x = norm(op("Add", [out, x], k + "sum2"), path + "output.LayerNorm", k + "norm2")

    mask3 = op("Unsqueeze", [mask, two], "mask3")
    total = op("ReduceSum", [op("Mul", [x, mask3], "kept"), one], "total", keepdims=0)
    count = op("ReduceSum", [mask, one], "count", keepdims=1)
    mean = op("Div", [total, op("Max", [count, g.scalar("tiny", 1e-9)], "at_least")], "mean")
    op("LpNormalization", [mean], "sentence_embedding", axis=1, p=2)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return g.model(
        "all-MiniLM-L6-v2",
        [(name, INT64, ["batch", "sequence"]) for name in names],
        [("sentence_embedding", FLOAT, ["batch", hidden])],
    )


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if sys.byteorder != "little":
        sys.exit("export: weights are copied as they are, so a little-endian machine is needed")
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    out.write_bytes(build(Weights(folder / "model.safetensors"), config))


main()
