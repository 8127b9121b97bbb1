"""Writes jailguard's head as ONNX: python3 export.py neural_binary_200k.json OUT.onnx

The JSON, of the crate jailguard, has three layers of weights. The input, `sentence_embedding`, is f32 [batch, 384], as
all-MiniLM-L6-v2 gives it; the output, `injection_score`, f32 [batch, 1]. It needs Python's standard library and nothing
else; scripts/guard.sh holds what it writes to a digest.
"""

import itertools
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "minilm"))
from onnx_writer import FLOAT, Graph  # noqa: E402


def build(weights):
    g = Graph()

    def layer(x, name, suffix, after):
        rows = weights["w_" + suffix]
        flat = list(itertools.chain.from_iterable(rows))
        w = g.constant(name + "_w", [len(rows), len(rows[0])], FLOAT, struct.pack(f"<{len(flat)}f", *flat))
        bias = weights["b_" + suffix]
        b = g.constant(name + "_b", [len(bias)], FLOAT, struct.pack(f"<{len(bias)}f", *bias))
        sums = g.op("Gemm", [x, w, b], name + "_sum", transB=1)
        return g.op(after, [sums], "injection_score" if suffix == "out" else name)

    first = layer("sentence_embedding", "h1", "h1", "Relu")
    layer(layer(first, "h2", "h2", "Relu"), "out", "out", "Sigmoid")
    return g.model(
        "jailguard-head",
        [("sentence_embedding", FLOAT, ["batch", 384])],
        [("injection_score", FLOAT, ["batch", 1])],
    )


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    weights = json.loads(pathlib.Path(sys.argv[1]).read_text())
    pathlib.Path(sys.argv[2]).write_bytes(build(weights))


main()
