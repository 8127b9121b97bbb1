"""Prints the README's lists from out/*.jsonl: coverage by type, failing cases by operator, wrong answers, panics.
Usage: .cache/venv/bin/python report.py"""
import collections, json, pathlib, re
import onnx

here = pathlib.Path(__file__).parent
cases = here / ".cache/onnx/onnx/backend/test/data/node"
load = lambda name: [json.loads(line) for line in open(here / "out" / f"{name}.jsonl")]
TYPES = {1: "f32", 2: "u8", 6: "i32", 7: "i64", 10: "f16", 11: "f64", 16: "bf16"}


def types(case):
    graph = onnx.load(cases / case / "model.onnx", load_external_data=False).graph
    return {TYPES[value.type.tensor_type.elem_type] for value in [*graph.input, *graph.output]}


engines = ["onnxruntime", "tract", "tract-baked", "rten", "rten-baked"]
reports = {engine: load(engine) for engine in engines}
uses = {report["case"]: types(report["case"]) for report in reports["tract"]}
print("| cases that use | all |", " | ".join(engines), "|\n|---|---|" + "---|" * len(engines))
for kind in TYPES.values():
    passed = [sum(kind in uses[r["case"]] and r["outcome"] == "pass" for r in reports[e]) for e in engines]
    print(f"| {kind} | {sum(kind in used for used in uses.values())} |", " | ".join(map(str, passed)), "|")

for engine in ["tract-baked", "rten-baked"]:
    total = collections.Counter(r["operator"] for r in reports[engine])
    failed = collections.Counter(r["operator"] for r in reports[engine] if r["outcome"] != "pass")
    print(f"\n{engine}, failing of all, by operator:", ", ".join(f"{name} {n}/{total[name]}" for name, n in sorted(failed.items())))
baked = {r["case"] for r in reports["tract-baked"] if r["outcome"] == "pass"}
only = collections.Counter(r["operator"] for r in reports["tract"] if r["outcome"] != "pass" and r["case"] in baked)
print("\ntract passes these only with their small inputs as constants:", ", ".join(f"{name} {n}" for name, n in sorted(only.items())))
several = [r for r in reports["tract-baked"] if r["operator"] == "several" and r["outcome"] != "pass"]
print("\ntract-baked, failing cases of several nodes:", ", ".join(sorted({re.sub(r"_expanded.*", "", r["case"].removeprefix("test_")) for r in several})))

for engine in ["tract-baked", "rten-baked", "tract-reused"]:
    print(f"\n{engine}, wrong:")
    for r in load(engine):
        if r["outcome"] == "wrong":
            print(" ", r["case"], r["detail"])

for engine in ["tract-fixed-strange", "tract-fixed-damaged", "rten-strange", "rten-damaged"]:
    places = collections.Counter()
    for r in load(engine):
        if r["outcome"] in ("panic-at-load", "panic-at-run", "crash", "hang"):
            place = re.search(r"([\w-]+-\d[\d.]*/src/\S+?:\d+)", r["detail"])
            places[(r["outcome"], place.group(1) if place else r["operator"])] += 1
    print(f"\n{engine}:")
    for (outcome, place), n in places.most_common():
        print(" ", n, outcome, place)
gather = [r["case"] + " " + r["trial"] for r in load("tract-fixed-strange") if re.search("gather|scatter|embedding", r["case"]) and r["trial"] in ("strange 5", "strange 6") and r["outcome"] == "pass" and r["detail"] == ""]
print("\ntract answers in spite of indices out of range:", gather)
