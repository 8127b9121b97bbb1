//! Which operands of an ONNX network a caller can set. A native engine may trust the value of a step, a size or a count
//! that divides or addresses something; its backend names those operators here ([`Operand`]) and refuses a network in
//! which such an operand is not a constant of the file.
//!
//! Only what is evidently constant counts as such: an initializer that is no input, a `Constant`, and what nodes of
//! ONNX's own make of these alone. Everything else is the caller's, also the shape of an input. What is constant has
//! its one value in the warm-up too, which the check at upload runs in a process of its own.
//!
//! The file has passed [`super::files`].

mod ir;
mod onnx;

use std::collections::{HashMap, HashSet};
use std::io::BufReader;

use super::{Refusal, open};
use crate::graph::GraphFiles;

/// An operand that must not be the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operand {
    /// The operator, of ONNX's own domain.
    pub(crate) op: &'static str,
    /// Which of its inputs, from 0 on; one that a node leaves out is no operand.
    pub(crate) index: usize,
    /// ONNX's word for that input.
    pub(crate) name: &'static str,
    /// What some values of it do, for who is told.
    pub(crate) harm: &'static str,
}

/// Where a caller can set one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerSet {
    /// What.
    pub(crate) operand: Operand,
    /// The node's name, or that of its first output where it has none.
    pub(crate) node: String,
    /// The value's name in the file.
    pub(crate) value: String,
}

/// The first of `operands` in the file that a caller can set, in subgraphs and functions as well.
pub(crate) fn caller_set(
    files: &GraphFiles,
    operands: &[Operand],
) -> Result<Option<CallerSet>, Refusal> {
    let model = match files {
        GraphFiles::Onnx(path) => {
            let (file, bytes) = open(path)?;
            onnx::model(BufReader::with_capacity(64 << 10, file), bytes)?
        }
        GraphFiles::OpenVinoIr { xml, .. } => ir::model(BufReader::new(open(xml)?.0))?,
    };
    Ok(model.caller_set(operands))
}

/// What is kept of a network: ONNX's `ModelProto`, or an IR's file in the same words.
#[derive(Debug, Default)]
struct Model {
    graph: GraphOf,
    functions: Vec<Function>,
}

impl Model {
    fn caller_set(&self, operands: &[Operand]) -> Option<CallerSet> {
        let functions = self.functions.iter();
        let search = Search {
            operands,
            functions: functions.map(|function| function.name.as_str()).collect(),
        };
        // The inputs of a function are whatever its callers give it.
        std::iter::once(&self.graph)
            .chain(self.functions.iter().map(|function| &function.body))
            .find_map(|graph| search.graph(graph, None))
    }
}

/// A `FunctionProto`: an operator that the file itself defines.
#[derive(Debug)]
struct Function {
    name: String,
    body: GraphOf,
}

/// A `GraphProto`, or a function's body.
#[derive(Debug, Default)]
struct GraphOf {
    inputs: Vec<String>,
    initializers: Vec<String>,
    nodes: Vec<Node>,
}

/// A `NodeProto`.
#[derive(Debug, Default)]
struct Node {
    name: String,
    op: String,
    domain: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Branches and bodies.
    graphs: Vec<GraphOf>,
}

impl Node {
    fn is_of_onnx(&self) -> bool {
        matches!(self.domain.as_str(), "" | "ai.onnx")
    }
}

/// The values that have a name in a graph, and whether each is a constant.
struct Scope<'a> {
    around: Option<&'a Scope<'a>>,
    constant: HashMap<&'a str, bool>,
}

impl<'a> Scope<'a> {
    /// A second definition of a name makes it nobody's constant: engines differ in which they take.
    fn define(&mut self, name: &'a str, constant: bool) {
        if !name.is_empty() {
            self.constant
                .entry(name)
                .and_modify(|known| *known = false)
                .or_insert(constant);
        }
    }

    fn is_constant(&self, name: &str) -> bool {
        match (self.constant.get(name), self.around) {
            (Some(constant), _) => *constant,
            (None, Some(around)) => around.is_constant(name),
            (None, None) => false,
        }
    }
}

struct Search<'a> {
    operands: &'a [Operand],
    functions: HashSet<&'a str>,
}

impl Search<'_> {
    fn graph(&self, graph: &GraphOf, around: Option<&Scope<'_>>) -> Option<CallerSet> {
        let mut scope = Scope {
            around,
            constant: HashMap::new(),
        };
        for name in &graph.initializers {
            scope.define(name, true);
        }
        // An initializer that is an input too is that input's default.
        for name in &graph.inputs {
            scope.define(name, false);
        }
        // A name that is given twice is no constant from the first node on.
        let mut given = HashSet::new();
        for output in graph.nodes.iter().flat_map(|node| &node.outputs) {
            if !given.insert(output.as_str()) || scope.constant.contains_key(output.as_str()) {
                scope.define(output, false);
            }
        }
        // Nodes come in the order of their values: what is read before it is made is not known to be constant.
        for node in &graph.nodes {
            if let Some(found) = self.node(node, &scope) {
                return Some(found);
            }
            let constant = self.is_constant(node, &scope);
            for output in &node.outputs {
                scope.define(output, constant);
            }
        }
        None
    }

    fn node(&self, node: &Node, scope: &Scope<'_>) -> Option<CallerSet> {
        let here = self.operands.iter().find_map(|operand| {
            let value = node.inputs.get(operand.index)?;
            let asked = node.op == operand.op && node.is_of_onnx();
            (asked && !value.is_empty() && !scope.is_constant(value)).then(|| CallerSet {
                operand: *operand,
                node: [&node.name]
                    .into_iter()
                    .chain(&node.outputs)
                    .find(|name| !name.is_empty())
                    .cloned()
                    .unwrap_or_default(),
                value: value.clone(),
            })
        });
        here.or_else(|| {
            let mut graphs = node.graphs.iter();
            graphs.find_map(|graph| self.graph(graph, Some(scope)))
        })
    }

    /// Whether what a node gives is in the file. A graph within it may take values from around, and a function of the
    /// file may do anything; some operators give something else at each run.
    fn is_constant(&self, node: &Node, scope: &Scope<'_>) -> bool {
        let plain = node.is_of_onnx()
            && node.graphs.is_empty()
            && !self.functions.contains(node.op.as_str());
        match node.op.as_str() {
            "Constant" => plain,
            "Bernoulli" | "Dropout" | "Multinomial" | "RandomNormalLike" | "RandomUniformLike" => {
                false
            }
            // IR's: the latter gives what was assigned in an earlier run.
            "RandomUniform" | "ReadValue" => false,
            _ => {
                let mut given = node
                    .inputs
                    .iter()
                    .filter(|name| !name.is_empty())
                    .peekable();
                plain && given.peek().is_some() && given.all(|name| scope.is_constant(name))
            }
        }
    }
}

#[cfg(test)]
mod tests;
