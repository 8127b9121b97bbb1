//! What a caller must not set on OpenVINO: values with which it ends the process, or reads or writes beside a tensor.
//! Found with 2026.4.1 by giving zeros, negative and huge values to what ONNX lets a network take as an input;
//! docs/operators.md says which operators held.

use crate::graph::GraphFiles;
use crate::precheck::{self, CallerSet, Operand};

const ENDS: &str = "zero ends the process";
const READS: &str = "it is not checked: memory beside the input is read";
const WRITES: &str = "it is not checked: memory beside the output is written";

/// By ONNX's words.
const ONNX: [Operand; 10] = [
    danger("Col2Im", 1, "image_shape", ENDS),
    danger("Col2Im", 2, "block_shape", ENDS),
    danger("DFT", 1, "dft_length", ENDS),
    danger("GatherND", 1, "indices", READS),
    danger("Range", 2, "delta", ENDS),
    danger("Scatter", 1, "indices", WRITES),
    danger("ScatterElements", 1, "indices", WRITES),
    danger("Split", 1, "split", READS),
    danger("SplitToSequence", 1, "split", READS),
    danger("Tile", 1, "repeats", WRITES),
];

/// By the words of OpenVINO's own operators, which are those of an IR.
const IR: [Operand; 11] = [
    danger("Col2Im", 1, "output_size", ENDS),
    danger("Col2Im", 2, "kernel_size", ENDS),
    danger("DFT", 2, "signal_size", ENDS),
    danger("GatherND", 1, "indices", READS),
    danger("IDFT", 2, "signal_size", ENDS),
    danger("IRDFT", 2, "signal_size", ENDS),
    danger("RDFT", 2, "signal_size", ENDS),
    danger("Range", 2, "step", ENDS),
    danger("ScatterElementsUpdate", 1, "indices", WRITES),
    danger("Tile", 1, "repeats", WRITES),
    danger("VariadicSplit", 2, "split_lengths", READS),
];

const fn danger(op: &'static str, index: usize, name: &'static str, harm: &'static str) -> Operand {
    Operand {
        op,
        index,
        name,
        harm,
    }
}

/// Refuses a network in which a caller could set one.
pub(super) fn check(files: &GraphFiles) -> Result<(), String> {
    let (operands, instead): (&[Operand], _) = match files {
        GraphFiles::Onnx(_) => (&ONNX, "use onnxruntime, or make it a constant"),
        GraphFiles::OpenVinoIr { .. } => (
            &IR,
            "make it a constant, or serve the network as ONNX by onnxruntime",
        ),
    };
    let found = precheck::caller_set(files, operands).map_err(|refusal| refusal.to_string())?;
    let Some(CallerSet {
        operand: Operand { op, name, harm, .. },
        node,
        value,
    }) = found
    else {
        return Ok(());
    };
    Err(format!(
        "`{op}` (node `{}`): its {name}, `{}`, is no constant, and a caller must not set it on OpenVINO ({harm}): {instead}",
        node.escape_debug(),
        value.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn a_step_of_the_callers_is_refused_in_onnx_and_in_an_ir_and_one_of_the_files_is_not() {
        let networks = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
        check(&GraphFiles::Onnx(networks.join("lookup.onnx"))).unwrap();
        let words = check(&GraphFiles::Onnx(networks.join("steps.onnx"))).unwrap_err();
        assert!(
            words.starts_with("`Range` (node `y`): its delta, `step`, is no constant"),
            "{words}"
        );

        let folder = tempfile::tempdir().unwrap();
        let ir = |step: &str| {
            let (xml, bin) = (folder.path().join("n.xml"), folder.path().join("n.bin"));
            let network = format!(
                r#"<net><layers><layer id="0" name="s" type="{step}"/><layer id="1" name="r" type="Range"><input>
                <port id="0"/><port id="1"/><port id="2"/></input></layer></layers><edges><edge from-layer="0" from-port="0"
                to-layer="1" to-port="2"/></edges></net>"#
            );
            std::fs::write(&xml, network).unwrap();
            check(&GraphFiles::OpenVinoIr { xml, bin })
        };
        ir("Const").unwrap();
        assert_eq!(
            ir("Parameter").unwrap_err(),
            "`Range` (node `r`): its step, `layer 0`, is no constant, and a caller must not set it on OpenVINO (zero ends \
             the process): make it a constant, or serve the network as ONNX by onnxruntime"
        );
    }
}
