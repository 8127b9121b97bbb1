"""Makes samples/speech.wav and golden.json: python3 golden.py SILERO.onnx

Speech by espeak-ng (Debian's package of that name), between silence; what the network says of each window, by ONNX
Runtime's own Python binding; and the segments, by the rules of Silero's `get_speech_timestamps` written down once
more. Needs onnxruntime and numpy, and is run only when the sample is to change: the tests read what it wrote.
"""

import io
import json
import pathlib
import subprocess
import sys
import wave

import numpy
import onnxruntime

RATE, WINDOW, CONTEXT = 16_000, 512, 64
SILENCE = 0.7
SENTENCES = ["Who is there?", "Come in, please."]
# As examples/vad/model.toml has them.
THRESHOLD, MIN_SILENCE, MIN_SPEECH, PAD = 0.5, 100 * 16, 250 * 16, 30 * 16


def spoken(sentence):
    """A sentence as f64 at 16 kHz; espeak-ng speaks at 22.05."""
    made = subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "--stdout", sentence], capture_output=True, check=True)
    with wave.open(io.BytesIO(made.stdout)) as speech:
        rate = speech.getframerate()
        # espeak-ng writes a head for a length it does not know yet.
        samples = numpy.frombuffer(made.stdout[44:], numpy.int16) / 32768
    # Each sample is a mean of those around it, weighed by a windowed sinc that lets pass what 16 kHz can carry.
    places = numpy.arange(int(len(samples) * RATE / rate)) * rate / RATE
    around = places.astype(int)[:, None] + numpy.arange(-24, 25)
    off = around - places[:, None]
    weight = numpy.sinc(off * RATE / rate) * (RATE / rate) * numpy.cos(off * numpy.pi / 50) ** 2
    inside = (around >= 0) & (around < len(samples))
    return (samples[around.clip(0, len(samples) - 1)] * inside * weight).sum(axis=1)


def probabilities(session, samples):
    state, context, found = numpy.zeros((2, 1, 128), numpy.float32), numpy.zeros(CONTEXT, numpy.float32), []
    for start in range(0, len(samples), WINDOW):
        window = samples[start : start + WINDOW].astype(numpy.float32) / 32768
        window = numpy.pad(window, (0, WINDOW - len(window)))
        inputs = {"input": numpy.concatenate([context, window])[None], "state": state, "sr": numpy.array(RATE)}
        output, state = session.run(["output", "stateN"], inputs)
        context = window[-CONTEXT:]
        found.append(float(output[0, 0]))
    return found


def segments(found, length):
    speeches, triggered, start, maybe = [], False, 0, 0
    for index, probability in enumerate(found):
        at = index * WINDOW
        if probability >= THRESHOLD and maybe:
            maybe = 0
        if probability >= THRESHOLD and not triggered:
            triggered, start = True, at
            continue
        if probability < THRESHOLD - 0.15 and triggered:
            maybe = maybe or at
            if at - maybe < MIN_SILENCE:
                continue
            if maybe - start > MIN_SPEECH:
                speeches.append((start, maybe, maybe + PAD))
            triggered, maybe = False, 0
    if triggered and length - start > MIN_SPEECH:
        speeches.append((start, length, length))
    return [{"start_ms": max(0, start - PAD) // 16, "end_ms": -(-end // 16)} for start, _, end in speeches]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    here = pathlib.Path(__file__).parent
    silence = numpy.zeros(int(SILENCE * RATE))
    parts = [silence]
    for sentence in SENTENCES:
        parts += [spoken(sentence) * 0.7, silence]
    samples = (numpy.concatenate(parts).clip(-1, 1) * 32767).astype(numpy.int16)
    with wave.open(str(here / "samples/speech.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    session = onnxruntime.InferenceSession(sys.argv[1])
    found = probabilities(session, samples)
    golden = {
        "silence": round(probabilities(session, numpy.zeros(WINDOW, numpy.int16))[0], 6),
        "probabilities": [round(value, 6) for value in found],
        "segments": segments(found, len(samples)),
    }
    (here / "golden.json").write_text(json.dumps(golden) + "\n")
    print(f"{len(samples)} samples, {len(found)} windows, {golden['segments']}")


main()
