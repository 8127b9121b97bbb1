//! `docs/operators.md`, made of the lists.

use std::{fmt::Write as _, fs};

use aegis_inference::BackendKind;

use crate::{ALL, CARRIED, failures::Failures, root};

const HEAD: &str = "\
<!-- Written by `UPDATE_DOCS=1 cargo test --workspace --test conformance page`. Edit tests/conformance/*.toml or host/sandbox/tests/conformance/page.rs instead. -->

# Which operators run

ONNX has a test case for each operator and each of its forms: a network of that one node, inputs, and the outputs that
are due. Aegis runs those of `onnx` 1.20.0 on each backend, **through `wasi:nn` from a guest**, as a handler would.
";

/// Written by hand, by what a developer tried.
const REFUSED: &str = "
## What OpenVINO must not be given by a caller

Some of OpenVINO's operators believe a value that is an input of the network, and zero, a negative or a huge one ends the
process, or reads or writes beside a tensor. The `openvino` backend loads no network in which a caller could set one:

| operator | what must be a constant | else (OpenVINO 2026.4.1, processor) |
|---|---|---|
| `Col2Im` | `image_shape`, `block_shape` | zeros end the process, huge ones hang it |
| `DFT` | `dft_length` | zero ends the process |
| `GatherND` | `indices` | beyond the data: what lies there comes out, or the process ends |
| `Range` | `delta` | zero ends the process, if not in floating point |
| `Scatter`, `ScatterElements` | `indices` | far below zero, or more than the data has: the process ends |
| `Split`, `SplitToSequence` | `split` | a negative length: what lies beside the data comes out |
| `Tile` | `repeats` | some sizes spoil the memory, and the process ends later |

In an IR the same holds for `Col2Im`, `DFT`, `IDFT`, `RDFT`, `IRDFT`, `GatherND`, `Range`, `ScatterElementsUpdate`, `Tile` and
`VariadicSplit`. Constant is what is an initializer and no input, a `Constant`, or made of these alone by nodes without
subgraphs; shapes of inputs are the caller's. The refusal names the node. With `backend = \"auto\"` an ONNX network is
served by ONNX Runtime, where it is there.

These took zeros, negative and huge values as inputs and did no harm: `Reshape`, `Slice`, `Gather`, `GatherElements`,
`ScatterND`, `Resize`, `Upsample`, `OneHot`, `Expand`, `ConstantOfShape`, `Pad`, `TopK`, `ReduceSum`, `ReduceMean`, `ReduceMax`,
`Squeeze`, `CumSum`, `Trilu`, `Compress`, `Div`, `Mod`, `Pow`, `BitShift`, `ReverseSequence`, `LSTM`, `GRU`, `RNN`, `RoiAlign`,
`NonMaxSuppression`, `GridSample`, `HannWindow`, `CenterCropPad`, `AffineGrid`, `NegativeLogLikelihoodLoss`,
`SoftmaxCrossEntropyLoss`, `RotaryEmbedding`. What is not named here was not tried.
";

/// How a backend is called in prose.
fn title(backend: BackendKind) -> &'static str {
    match backend {
        BackendKind::OnnxRuntime => "ONNX Runtime",
        BackendKind::OpenVino => "OpenVINO",
        BackendKind::Embedded => "the embedded engine",
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    writeln!(
        page,
        "\nOf its {ALL} cases, {CARRIED} have only tensors of the seven types that `wasi:nn` knows: fp16, fp32, fp64, \
         bf16, u8, i32 and i64. Of\nthese pass, by the tolerance of ONNX's own runner (a thousandth):\n"
    )
    .unwrap();
    writeln!(page, "| backend | pass | fail |\n|---|---|---|").unwrap();
    let lists = BackendKind::ALL.map(|backend| (backend, Failures::read(backend)));
    for (backend, failures) in &lists {
        let passing = CARRIED - failures.len();
        writeln!(page, "| `{backend}` | {passing} | {} |", failures.len()).unwrap();
    }
    writeln!(
        page,
        "\nOpenVINO computes in f32 here, as it does for a manifest that says nothing else (`precision`). A case that \
         fails is listed\nwith its reason in `tests/conformance/`; the tests fail when another one does, or when one \
         of these passes.\n`scripts/conformance.sh` brings the cases."
    )
    .unwrap();
    page.push_str(REFUSED);
    for (backend, failures) in &lists {
        writeln!(page, "\n## What fails on {}\n", title(*backend)).unwrap();
        writeln!(page, "| cases | why |\n|---|---|").unwrap();
        let mut reasons: Vec<_> = failures.by_reason().into_iter().collect();
        reasons.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
        for (reason, cases) in reasons {
            let reason = reason.replace('|', "\\|");
            writeln!(page, "| {} | {reason} |", cases.len()).unwrap();
        }
    }
    page
}

#[test]
fn the_page_says_what_the_lists_say() {
    let path = root().join("docs/operators.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/operators.md is not what the lists say; run: \
         UPDATE_DOCS=1 cargo test --workspace --test conformance page"
    );
}
