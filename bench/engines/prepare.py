"""Makes what the comparison needs beside the shared models: a seeded 64-1024-1024-10 network, and the three sentences of
the text model as token ids. Usage: prepare.py MINILM_MODEL_FOLDER OUT_FOLDER"""
import json, re, sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

minilm, out = sys.argv[1:3]

rng = np.random.default_rng(7)
sizes, nodes, weights, last = [64, 1024, 1024, 10], [], [], "input"
for layer, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
    matrix = (rng.standard_normal((rows, columns)) * (2 / rows) ** 0.5).astype(np.float32)
    weights += [numpy_helper.from_array(matrix, f"w{layer}"), numpy_helper.from_array(np.zeros(columns, np.float32), f"b{layer}")]
    nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
    last = f"g{layer}"
    if layer < 2:
        nodes.append(helper.make_node("Relu", [last], [f"r{layer}"]))
        last = f"r{layer}"
nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
tensor = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
graph = helper.make_graph(nodes, "mlp", [tensor("input", 64)], [tensor("probabilities", 10)], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
onnx.checker.check_model(model)
onnx.save(model, f"{out}/mlp-64-1024-1024-10.onnx")

vocabulary = {word.rstrip("\n"): number for number, word in enumerate(open(f"{minilm}/vocab.txt", encoding="utf-8"))}


def pieces(word):
    """Greedy longest match, as BERT's tokenizer does."""
    while word:
        size = next(n for n in range(len(word), 0, -1) if word[:n] in vocabulary)
        yield vocabulary[word[:size]]
        word = "##" + word[size:] if size < len(word) else ""


ids, mask = [], []
for sentence in ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]:
    row = [101] + [p for word in re.findall(r"\w+|[^\w\s]", sentence.lower()) for p in pieces(word)] + [102]
    mask.append([1] * len(row) + [0] * (16 - len(row)))
    ids.append(row + [0] * (16 - len(row)))
json.dump({"input_ids": ids, "attention_mask": mask}, open(f"{out}/minilm-sentences.json", "w"))
