"""Makes the small networks of the tests; their output is committed, so that the tests need no Python.

Run with the packages `onnx` and `openvino` at hand: python make.py
"""
from pathlib import Path

import numpy as np
import openvino
from onnx import TensorProto as T, checker, helper as h, numpy_helper as nh

HERE = Path(__file__).parent
TYPES = {
    "fp16": T.FLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE, "bf16": T.BFLOAT16,
    "u8": T.UINT8, "i32": T.INT32, "i64": T.INT64,
}


def network(name, nodes, inputs, outputs, initializers=(), check=True):
    graph = h.make_graph(
        nodes, name,
        [h.make_tensor_value_info(*port) for port in inputs],
        [h.make_tensor_value_info(*port) for port in outputs],
        initializer=list(initializers),
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], producer_name="aegis-tests")
    model.ir_version = 9
    if check:
        checker.check_model(model, full_check=True)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


# The same elements in another shape: real work for every type, and exact. A batch of rows of 2 becomes rows of 1.
for word, ty in TYPES.items():
    network(
        f"reshape-{word}",
        [h.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", ty, ["batch", 2])], [("y", ty, ["rows", 1])],
        [nh.from_array(np.array([-1, 1], np.int64), "shape")],
    )

# Output types outside wasi:nn's seven.
network("to-bool", [h.make_node("Greater", ["x", "zero"], ["positive"])],
        [("x", T.FLOAT, ["n"])], [("positive", T.BOOL, ["n"])], [nh.from_array(np.array(0, np.float32), "zero")])
network("to-u32", [h.make_node("Cast", ["x"], ["count"], to=T.UINT32)],
        [("x", T.FLOAT, ["n"])], [("count", T.UINT32, ["n"])])
network("to-string", [h.make_node("Cast", ["x"], ["words"], to=T.STRING)],
        [("x", T.FLOAT, ["n"])], [("words", T.STRING, ["n"])])
# And an input.
network("from-bool", [h.make_node("Cast", ["flag"], ["y"], to=T.FLOAT)],
        [("flag", T.BOOL, ["n"])], [("y", T.FLOAT, ["n"])])

# The size of the output is known only once the values are.
network("nonzero", [h.make_node("NonZero", ["x"], ["places"])],
        [("x", T.FLOAT, ["n"])], [("places", T.INT64, [1, "found"])])

# Two inputs whose order matters, two outputs, one of them under the name of an input that passes straight through
# another node; a scalar; no dynamic dimension.
network("difference",
        [h.make_node("Sub", ["left", "right"], ["difference"]), h.make_node("Sum", ["left", "right", "offset"], ["sum"])],
        [("left", T.FLOAT, [3]), ("right", T.FLOAT, [3]), ("offset", T.FLOAT, [])],
        [("difference", T.FLOAT, [3]), ("sum", T.FLOAT, [3])])

# Outputs that are one tensor under several names inside.
network("aliases",
        [h.make_node("Relu", ["x"], ["inner"]), h.make_node("Identity", ["inner"], ["first"]),
         h.make_node("Identity", ["inner"], ["second"])],
        [("x", T.FLOAT, ["n"])], [("second", T.FLOAT, ["n"]), ("first", T.FLOAT, ["n"])])

# A weight that claims to lie in a file outside the model's folder: here, a test's source.
outside = T()
outside.name, outside.data_type = "w", T.UINT8
outside.dims.append(4)
outside.data_location = T.EXTERNAL
for key, value in [("location", "../types.rs"), ("offset", "0"), ("length", "4")]:
    entry = outside.external_data.add()
    entry.key, entry.value = key, value
network("escape", [h.make_node("Concat", ["x", "w"], ["y"], axis=0)],
        [("x", T.UINT8, [1])], [("y", T.UINT8, [5])], [outside], check=False)

# A table of four numbers, looked up by an index that a caller may get wrong.
network("lookup", [h.make_node("Gather", ["table", "index"], ["y"])],
        [("index", T.INT64, ["n"])], [("y", T.FLOAT, ["n"])],
        [nh.from_array(np.array([1, 2, 3, 4], np.float32), "table")])

# Each value as a part of the greatest in the whole batch: answers depend on who else is there, as those of a network that
# is quantised dynamically do.
network("relative",
        [h.make_node("ReduceMax", ["x"], ["greatest"], keepdims=0), h.make_node("Div", ["x", "greatest"], ["y"])],
        [("x", T.FLOAT, ["rows", 2])], [("y", T.FLOAT, ["rows", 2])])

# The same network as ONNX and as OpenVINO's IR, whose weights lie in a second file.
network("scale", [h.make_node("Mul", ["x", "factors"], ["y"])],
        [("x", T.FLOAT, ["rows", 3])], [("y", T.FLOAT, ["rows", 3])],
        [nh.from_array(np.array([1, 10, 100], np.float32), "factors")])
openvino.save_model(openvino.Core().read_model(HERE / "scale.onnx"), HERE / "scale.xml", compress_to_fp16=False)

# A run of milliseconds at a batch of some hundred rows, for tests of what happens meanwhile: products with a matrix whose
# every number is 1/256, so that each answer is its row's mean. The matrix is made at load, to keep the file small.
side, times = 256, 24
network("slow",
        [h.make_node("ConstantOfShape", ["shape"], ["w"],
                     value=nh.from_array(np.array([1 / side], np.float32), "value"))]
        + [h.make_node("MatMul", [f"p{step}" if step else "x", "w"], [f"p{step + 1}" if step + 1 < times else "y"])
           for step in range(times)],
        [("x", T.FLOAT, ["batch", side])], [("y", T.FLOAT, ["batch", side])],
        [nh.from_array(np.array([side, side], np.int64), "shape")])

# An input that comes straight out again, and one without elements: OpenVINO renames the one and folds the other away.
network("renamed",
        [h.make_node("Dropout", ["x"], ["y"]), h.make_node("ReduceSum", ["z", "axes"], ["sum"], keepdims=0)],
        [("axes", T.INT64, [0]), ("x", T.FLOAT, ["n"]), ("z", T.FLOAT, ["m"])],
        [("y", T.FLOAT, ["n"]), ("sum", T.FLOAT, [])])

# Scalars that are no measurements but say how far and in which steps: a step of zero is a division by zero.
network("steps", [h.make_node("Range", ["from", "to", "step"], ["y"])],
        [("from", T.INT32, []), ("to", T.INT32, []), ("step", T.INT32, [])], [("y", T.INT32, ["n"])])

# Fails with any input whose shape does not hold its elements.
network("refuses", [h.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", T.FLOAT, ["n"]), ("shape", T.INT64, [2])], [("y", T.FLOAT, ["rows", "columns"])])
