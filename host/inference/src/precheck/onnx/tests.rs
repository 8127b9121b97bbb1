//! Files that no exporter writes, made by hand.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use proptest::prelude::*;

use super::super::handmade::{field, model, number};
use super::super::{Refusal, files, onnx_bytes};
use crate::graph::{GraphFiles, GraphSpec};

/// An initializer `w` of f32 with these dimensions and this more.
fn initializer(dims: &[u64], more: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    tensor.extend(number(2, 1));
    tensor.extend(field(8, b"w"));
    tensor.extend(more);
    field(5, &tensor)
}

fn external(location: &str, offset: u64) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        field(13, &entry)
    };
    [
        entry("location", location),
        entry("offset", &offset.to_string()),
        number(14, 1),
    ]
    .concat()
}

#[track_caller]
fn malformed(bytes: &[u8], part: &str) {
    match onnx_bytes(bytes) {
        Err(Refusal::Malformed(words)) if words.contains(part) => {}
        other => panic!("`{part}` in {other:?}"),
    }
}

#[test]
fn values_are_as_many_as_the_shape_says() {
    onnx_bytes(&model(&initializer(&[2, 3], &field(9, &[0; 24])))).unwrap();
    onnx_bytes(&model(&initializer(&[2, 3], &field(4, &[0; 24])))).unwrap();
    onnx_bytes(&model(&initializer(&[], &field(9, &[0; 4])))).unwrap();
    onnx_bytes(&model(&initializer(&[0], &[]))).unwrap();
    malformed(
        &model(&initializer(&[2, 3], &field(9, &[0; 23]))),
        "`w` of 6 elements has 23 bytes",
    );
    malformed(
        &model(&initializer(&[2, 3], &field(4, &[0; 4]))),
        "has 1 values where 6",
    );
    malformed(&model(&initializer(&[2, 3], &[])), "has 0 values where 6");
}

#[test]
fn shapes_that_no_memory_holds_are_refused() {
    for dims in [
        &[u64::MAX / 2, 4][..],
        &[1 << 32, 1 << 32],
        &[0, 1 << 62, 1 << 62],
        &[1 << 40],
    ] {
        malformed(&model(&initializer(dims, &[])), "elements");
    }
    malformed(&model(&initializer(&[u64::MAX], &[])), "a dimension of -1");
    malformed(
        &model(&initializer(&[1; 65], &field(9, &[0; 4]))),
        "65 dimensions",
    );
    malformed(
        &model(&initializer(&[1; 5000], &field(9, &[0; 4]))),
        "dimensions",
    );
    // An input that is declared so.
    let shape: Vec<u8> = [1 << 30, 1 << 30]
        .iter()
        .flat_map(|&dim| field(1, &number(1, dim)))
        .collect();
    let ty = field(1, &[number(1, 1), field(2, &shape)].concat());
    malformed(
        &model(&field(11, &[field(1, b"x"), field(2, &ty)].concat())),
        "a declared input",
    );
}

#[test]
fn values_in_other_files_are_refused_wherever_the_tensor_hides() {
    let elsewhere = initializer(&[1], &external("/etc/passwd", 0));
    let tensor = elsewhere.get(2..).unwrap();
    let node = |attribute: &[u8]| field(1, &field(5, attribute));
    let function = |node: &[u8]| field(25, &field(7, node.get(2..).unwrap()));
    for hidden in [
        model(&elsewhere),
        model(&field(15, &field(1, tensor))),
        model(&field(15, &field(2, tensor))),
        model(&node(&field(5, tensor))),
        model(&node(&field(10, tensor))),
        model(&node(&field(6, &elsewhere))),
        model(&node(&field(11, &elsewhere))),
        model(&node(&field(22, &field(1, tensor)))),
        [model(&[]), function(&node(&field(5, tensor)))].concat(),
        [model(&[]), field(20, &field(1, &elsewhere))].concat(),
        // The place alone, or the path alone, is enough.
        model(&initializer(&[1], &number(14, 1))),
        model(&initializer(&[1], &field(13, &field(1, b"location")))),
        model(&initializer(
            &[1],
            &[field(9, &[0; 4]), number(14, 1)].concat(),
        )),
    ] {
        let refusal = onnx_bytes(&hidden).unwrap_err();
        assert!(matches!(refusal, Refusal::ExternalData(_)), "{refusal}");
    }
}

#[test]
fn the_manifests_weights_are_the_one_file_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("big.data"), [0; 16]).unwrap();
    std::fs::write(at("other.data"), [0; 16]).unwrap();
    let check = |dims: &[u64], location: &str, offset, weights: Option<&str>| {
        std::fs::write(
            at("big.onnx"),
            model(&initializer(dims, &external(location, offset))),
        )
        .unwrap();
        let mut spec = GraphSpec::new("g", GraphFiles::Onnx(at("big.onnx")));
        spec.external_data = weights.map(at);
        files(&spec)
    };
    check(&[2], "big.data", 8, Some("big.data")).unwrap();
    for (dims, location, offset, weights) in [
        (&[2][..], "big.data", 8, None),
        (&[2], "other.data", 8, Some("big.data")),
        (&[2], "../big.data", 8, Some("big.data")),
        (&[2], "./sub/../big.data", 8, Some("big.data")),
        (&[2], "/etc/passwd", 8, Some("big.data")),
        (&[2], "big.data", 9, Some("big.data")),
        (&[2], "big.data", u64::MAX, Some("big.data")),
        (&[5], "big.data", 0, Some("big.data")),
    ] {
        let refusal = check(dims, location, offset, weights).unwrap_err();
        assert!(matches!(refusal, Refusal::ExternalData(_)), "{refusal}");
    }
}

#[test]
fn bombs_are_refused() {
    // Two bytes each in the file, hundreds in memory.
    let nodes = field(1, &[]).repeat(5 << 20);
    malformed(&model(&nodes), "messages and strings");
    let mut nested = Vec::new();
    for _ in 0..40 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    malformed(&model(&nested), "graphs within graphs");
    let mut ty = number(1, 1);
    for _ in 0..40 {
        ty = field(4, &field(1, &ty));
    }
    malformed(&model(&field(11, &field(2, &ty))), "types within types");
}

#[test]
fn what_is_cut_off_or_no_onnx_is_told_so() {
    let whole = model(&initializer(&[2, 3], &field(9, &[0; 24])));
    for cut in 1..whole.len() {
        onnx_bytes(whole.get(..cut).unwrap()).unwrap_err();
    }
    malformed(b"", "no graph");
    malformed(&[0x5a; 4096], "cut off");
    malformed(&[0xff; 64], "ten bytes");
    malformed(b"ORTM, or so", "wire type");
}

#[test]
fn halves_that_a_parser_would_join_are_refused() {
    let half = field(5, &[number(1, 1), number(2, 1), field(9, &[0; 4])].concat());
    let attribute = [half.clone(), half].concat();
    malformed(&model(&field(1, &field(5, &attribute))), "twice");
    malformed(&[model(&[]), model(&[])].concat(), "twice");
}

#[test]
fn real_networks_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut refused = Vec::new();
    let mut passed = 0;
    for folder in ["tests/networks", "../../models/digits", "../../models/spam"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let graph = if name.ends_with(".onnx") {
                GraphFiles::Onnx(path)
            } else if name.ends_with(".xml") {
                GraphFiles::OpenVinoIr {
                    bin: path.with_extension("bin"),
                    xml: path,
                }
            } else {
                continue;
            };
            match files(&GraphSpec::new("g", graph)) {
                Ok(()) => passed += 1,
                Err(refusal) => refused.push((name, refusal)),
            }
        }
    }
    assert!(passed > 15, "{passed}");
    // The one that was made to read what it may not.
    match refused.as_slice() {
        [(name, Refusal::ExternalData(_))] if name == "escape.onnx" => {}
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = onnx_bytes(&bytes);
        let _ = onnx_bytes(&model(&bytes));
        let _ = onnx_bytes(&model(&field(5, &bytes)));
        let _ = onnx_bytes(&model(&field(1, &field(5, &bytes))));
    }

    #[test]
    fn no_change_of_a_real_network_makes_it_panic(at in 0_usize..10_000, to in any::<u8>()) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits/digits.onnx");
        let mut bytes = std::fs::read(path).unwrap();
        let at = at % bytes.len();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        let _ = onnx_bytes(&bytes);
    }
}
