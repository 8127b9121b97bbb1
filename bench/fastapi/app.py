"""Digits as people serve them by hand: the yardstick of `aegis-bench batching`, beside which Aegis is measured.

It does what the handler of examples/digits does with numbers: 64 pixels in, held to their range, the digit and its
probabilities out. NETWORK names the ONNX file. One process has one session of one thread; serve.py starts one process a
core.
"""

import os
from typing import Annotated

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, Field

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["NETWORK"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Picture(BaseModel):
    pixels: Annotated[list[Annotated[float, Field(ge=0, le=16)]], Field(min_length=64, max_length=64)]


class Answer(BaseModel):
    digit: int
    probabilities: list[float]


@app.post("/predict")
async def predict(picture: Picture) -> Answer:
    (probabilities,) = session.run(["probabilities"], {"input": np.array([picture.pixels], dtype=np.float32)})
    return Answer(digit=int(probabilities[0].argmax()), probabilities=probabilities[0].tolist())
