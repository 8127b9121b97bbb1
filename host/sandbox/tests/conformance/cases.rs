//! The cases on disk: a folder each, with a network and one set of inputs and outputs.

use std::path::{Path, PathBuf};

use aegis_sandbox::{Datatype, TypedTensor};

use crate::{
    proto::{self, Model, Tensor, Value},
    root,
};

/// The folder that `scripts/conformance.sh` fills.
fn folder() -> PathBuf {
    root().join(".conformance/node")
}

/// Whether the cases are there. Where they must be, their absence fails.
pub(crate) fn are_there() -> bool {
    let there = folder().is_dir();
    if !there {
        crate::missing("there are no node cases in .conformance", "conformance.sh");
    }
    there
}

/// How many cases there are, and the names of those that `wasi:nn` can carry.
pub(crate) fn carried() -> (usize, Vec<String>) {
    let folders = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let all = names.len();
    names.retain(|name| {
        let (inputs, outputs) = ports(&network(name));
        inputs.iter().chain(&outputs).all(|port| port.1.is_some())
    });
    (all, names)
}

/// A case's network.
pub(crate) fn network(name: &str) -> PathBuf {
    folder().join(name).join("model.onnx")
}

/// A case as it is asked and answered.
pub(crate) struct Case {
    pub(crate) network: PathBuf,
    pub(crate) inputs: Vec<TypedTensor>,
    /// In the network's order, under its names.
    pub(crate) outputs: Vec<TypedTensor>,
}

impl Case {
    pub(crate) fn read(name: &str) -> Case {
        let network = network(name);
        let case = network.parent().unwrap();
        // Such a file may set a tolerance of the case's own, and no case of this version has one.
        assert!(!case.join("data.json").exists(), "{name} has a data.json");
        let set = case.join("test_data_set_0");
        let (inputs, outputs) = ports(&network);
        let tensors = |what: &str, ports: Vec<Port>| -> Vec<TypedTensor> {
            let count = files(&set, what);
            assert_eq!(count, ports.len(), "{name}: a file for each {what}");
            let numbered = ports.into_iter().enumerate();
            numbered
                .map(|(index, (port, datatype))| {
                    let file = set.join(format!("{what}_{index}.pb"));
                    tensor(&file, port, datatype.unwrap())
                })
                .collect()
        };
        let inputs = tensors("input", inputs);
        let outputs = tensors("output", outputs);
        Case {
            network,
            inputs,
            outputs,
        }
    }
}

/// A name, and the type if it is a tensor of one that `wasi:nn` has.
type Port = (String, Option<Datatype>);

/// What a network takes and gives.
fn ports(network: &Path) -> (Vec<Port>, Vec<Port>) {
    let model: Model = proto::read(network);
    let graph = model.graph.unwrap();
    let port = |value: Value| {
        let tensor = value.r#type.and_then(|ty| ty.tensor);
        (value.name, tensor.and_then(|ty| datatype(ty.element)))
    };
    (
        graph.input.into_iter().map(port).collect(),
        graph.output.into_iter().map(port).collect(),
    )
}

fn files(set: &Path, what: &str) -> usize {
    let names = std::fs::read_dir(set).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(what)).count()
}

fn tensor(file: &Path, name: String, datatype: Datatype) -> TypedTensor {
    let tensor: Tensor = proto::read(file);
    let shape: Vec<u64> = tensor.dims.iter().map(|dim| *dim as u64).collect();
    assert_eq!(
        self::datatype(tensor.element),
        Some(datatype),
        "{}",
        file.display()
    );
    assert_eq!(
        tensor.raw.len() as u64,
        shape.iter().product::<u64>() * size(datatype),
        "{}: elements are raw bytes",
        file.display()
    );
    TypedTensor {
        name,
        datatype,
        shape,
        data: tensor.raw,
    }
}

/// `TensorProto.DataType`, of which these are `wasi:nn`'s.
fn datatype(element: i32) -> Option<Datatype> {
    Some(match element {
        1 => Datatype::Fp32,
        2 => Datatype::Uint8,
        6 => Datatype::Int32,
        7 => Datatype::Int64,
        10 => Datatype::Fp16,
        11 => Datatype::Fp64,
        16 => Datatype::Bf16,
        _ => return None,
    })
}

fn size(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Uint8 => 1,
        Datatype::Fp16 | Datatype::Bf16 => 2,
        Datatype::Fp32 | Datatype::Int32 => 4,
        _ => 8,
    }
}
