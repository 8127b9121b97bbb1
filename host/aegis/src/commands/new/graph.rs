//! A network that a new project is written for: what it takes and gives, and the handler
//! that runs it on JSON.

use std::{fmt::Write as _, fs, path::Path};

use aegis_server::{
    BackendChoice, BackendKind, Dim, GraphFiles, GraphSpec, Port, Runtime, RuntimeConfig,
    TensorType,
};
use anyhow::{Context as _, anyhow, bail};

/// A network whose ports a handler can have.
pub(super) struct Network {
    name: String,
    inputs: Vec<Field>,
    outputs: Vec<Field>,
}

/// A port, as a field of the handler's input or output.
struct Field {
    /// The network's name for it, which JSON has too.
    name: String,
    /// The field's name.
    ident: String,
    ty: TensorType,
    dims: Vec<Dim>,
}

impl Network {
    /// Copies the network to where the project has it, and reads there what it takes: a
    /// network of several files fails here and not when it is pushed.
    pub(super) fn copy(file: &Path, name: &str, to: &Path) -> anyhow::Result<Network> {
        fs::copy(file, to).with_context(|| file.display().to_string())?;
        // The embedded engine is there on every machine and is Rust throughout: whatever the
        // file holds, reading it is safe.
        let spec = GraphSpec {
            backend: BackendChoice::Is(BackendKind::Embedded),
            ..GraphSpec::new(name, GraphFiles::Onnx(to.to_owned()))
        };
        let graph = Runtime::new(RuntimeConfig::default())
            .load(&spec)
            .map_err(|error| {
                anyhow!(
                    "{}: {error}; `aegis new` reads one ONNX file that the embedded engine runs. \
                     Without --graph it writes a handler to put any network into",
                    file.display()
                )
            })?;
        let signature = graph.signature();
        Network::new(name, &signature.inputs, &signature.outputs)
            .with_context(|| file.display().to_string())
    }

    fn new(name: &str, inputs: &[Port], outputs: &[Port]) -> anyhow::Result<Network> {
        if inputs.is_empty() {
            bail!("the network takes no inputs, so there is nothing to ask it");
        }
        Ok(Network {
            name: name.to_owned(),
            inputs: fields(inputs)?,
            outputs: fields(outputs)?,
        })
    }

    /// The manifest's section for it.
    pub(super) fn section(&self) -> String {
        let name = &self.name;
        format!("\n[[graph]]\nname = \"{name}\"\nfile = \"{name}.onnx\"\n")
    }

    /// A body that the handler takes, or the beginning of one that is too long to show.
    pub(super) fn sample(&self) -> String {
        const SHOWN: usize = 128;
        let inputs: Vec<String> = self
            .inputs
            .iter()
            .map(|input| {
                let zeros = vec!["0"; input.smallest().min(SHOWN)].join(",");
                let more = if input.smallest() > SHOWN { ",…" } else { "" };
                format!("{}:[{zeros}{more}]", serde_json::json!(input.name))
            })
            .collect();
        format!("{{{}}}", inputs.join(","))
    }

    /// The handler's source.
    pub(super) fn handler(&self) -> String {
        // Writing to a string cannot fail.
        let mut code = String::new();
        let _ = self.write(&mut code);
        code
    }

    fn write(&self, code: &mut String) -> std::fmt::Result {
        let all = || self.inputs.iter().chain(&self.outputs);
        let mut names = vec!["Context", "Failure", "Json", "Tensor"];
        if self.outputs.iter().any(|output| output.half().is_none()) {
            names.push("Values");
        }
        for half in ["bf16", "f16"] {
            if all().any(|field| field.half() == Some(half)) {
                names.push(half);
            }
        }
        writeln!(
            code,
            "//! `{name}`: the network `{name}.onnx` behind typed JSON. What callers send and get is\n\
             //! [`Input`] and [`Output`]: make of them what fits, and of `predict` what leads from one to\n\
             //! the other.\n\n\
             use aegis_guest::{{{}}};\nuse serde::{{Deserialize, Serialize}};\n",
            names.join(", "),
            name = self.name
        )?;
        writeln!(
            code,
            "/// What a caller sends: the numbers of each of the network's inputs, row by row.\n\
             #[derive(Debug, Deserialize)]\npub struct Input {{"
        )?;
        for input in &self.inputs {
            input.declare(code, &format!("Vec<{}>", input.json_type()))?;
        }
        writeln!(
            code,
            "}}\n\n/// What is answered: the numbers of each of the network's outputs, row by row.\n\
             #[derive(Debug, PartialEq, Serialize)]\npub struct Output {{"
        )?;
        for output in &self.outputs {
            let list = if output.half().is_some() {
                "Vec"
            } else {
                "Values"
            };
            output.declare(code, &format!("{list}<{}>", output.json_type()))?;
        }
        writeln!(code, "}}\n")?;
        self.write_predict(code)?;
        writeln!(code, "aegis_guest::handler!(predict);\n\n{SHAPE}")?;
        self.write_tests(code)
    }

    fn write_predict(&self, code: &mut String) -> std::fmt::Result {
        writeln!(
            code,
            "fn predict(ctx: &Context, Json(input): Json<Input>) -> Result<Json<Output>, Failure> {{"
        )?;
        for input in &self.inputs {
            writeln!(
                code,
                "    let {ident}_shape = shape({:?}, input.{ident}.len(), &{})?;",
                input.pointer(),
                input.dims_code(),
                ident = input.ident,
            )?;
            if let Some(half) = input.half() {
                writeln!(
                    code,
                    "    let {ident}_values: Vec<{half}> = input.{ident}.iter().map(|value| {half}::from_f32(*value)).collect();",
                    ident = input.ident,
                )?;
            }
        }
        writeln!(code, "    let outputs = ctx.graph({:?})?.run(&[", self.name)?;
        for input in &self.inputs {
            let values = match input.half() {
                Some(_) => format!("&{}_values", input.ident),
                None => format!("&input.{}", input.ident),
            };
            writeln!(
                code,
                "        ({:?}, Tensor::new(&{}_shape, {values})),",
                input.name, input.ident
            )?;
        }
        writeln!(code, "    ])?;\n    Ok(Json(Output {{")?;
        for output in &self.outputs {
            let (ident, name) = (&output.ident, &output.name);
            match output.half() {
                None => writeln!(code, "        {ident}: outputs.get({name:?})?,")?,
                Some(half) => writeln!(
                    code,
                    "        {ident}: outputs.get::<{half}>({name:?})?.iter().map(|value| value.to_f32()).collect(),"
                )?,
            }
        }
        writeln!(code, "    }}))\n}}\n")
    }

    fn write_tests(&self, code: &mut String) -> std::fmt::Result {
        writeln!(
            code,
            "#[cfg(test)]\nmod tests {{\n    use aegis_guest::testing::{{FakeHost, problem}};\n\n    use super::*;\n\n    \
             /// Stands for the network, which the tests have not: every number it answers is 0.\n    \
             fn host() -> FakeHost {{\n        FakeHost::new().graph({:?}, |inputs| {{",
            self.name
        )?;
        for input in &self.inputs {
            let shape = &input.smallest_shape();
            writeln!(
                code,
                "assert_eq!(inputs.shape({:?})?, {shape:?});",
                input.name
            )?;
        }
        writeln!(code, "Ok(vec![")?;
        for output in &self.outputs {
            let zero = match output.half() {
                Some(half) => format!("{half}::ZERO"),
                None => zero(output.ty).to_owned(),
            };
            writeln!(
                code,
                "({:?}, Tensor::from_vec(&{:?}, vec![{zero}; {}])),",
                output.name,
                output.smallest_shape(),
                output.smallest()
            )?;
        }
        let smallest = |input: &Field| format!("vec![{}; {}]", zero(input.ty), input.smallest());
        let given = |empty: bool| {
            let fields: Vec<String> = self
                .inputs
                .iter()
                .map(|input| {
                    let values = if empty {
                        "Vec::new()".to_owned()
                    } else {
                        smallest(input)
                    };
                    format!("{}: {values}", input.ident)
                })
                .collect();
            fields.join(", ")
        };
        let first = self.inputs.first().map(Field::pointer).unwrap_or_default();
        writeln!(
            code,
            "])\n        }})\n    }}\n\n    #[test]\n    fn numbers_go_through_the_network() {{\n        \
             let input = Input {{ {} }};\n        \
             let answer = predict(&host().context(), Json(input));\n        \
             assert!(answer.is_ok(), \"{{answer:?}}\");\n    }}\n\n    #[test]\n    \
             fn too_few_numbers_are_the_callers_mistake() {{\n        \
             let input = Input {{ {} }};\n        \
             let answer = predict(&host().context(), Json(input));\n        \
             assert_eq!(problem(&answer).unwrap().field.as_deref(), Some({first:?}));\n    }}\n}}",
            given(false),
            given(true),
        )
    }
}

/// The part of a handler that is the same for every network.
const SHAPE: &str = r#"/// The shape of `count` numbers, given at `pointer`. How large the open dimensions (`None`)
/// are is told by how many numbers there are: the last of them takes all, others are 1.
fn shape(pointer: &str, count: usize, dims: &[Option<u32>]) -> Result<Vec<u32>, Failure> {
    let row: usize = dims.iter().flatten().map(|size| *size as usize).product();
    let open = dims.iter().rposition(Option::is_none);
    let rows = count.checked_div(row).unwrap_or(0);
    if count == 0 || rows * row != count || (open.is_none() && rows != 1) {
        let more = open.map_or("", |_| ", or a multiple of it");
        return Err(Failure::invalid_field(
            pointer,
            format!("{row} numbers wanted{more}; {count} given"),
        ));
    }
    let rows = u32::try_from(rows)?;
    let size = |axis| if Some(axis) == open { rows } else { 1 };
    let dims = dims.iter().enumerate();
    Ok(dims.map(|(axis, given)| given.unwrap_or(size(axis))).collect())
}
"#;

fn fields(ports: &[Port]) -> anyhow::Result<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let Some(ty) = port.ty else {
            bail!(
                "`{}` is of a type that no handler can have: wasi:nn knows fp16, fp32, fp64, bf16, \
                 u8, i32 and i64",
                port.name
            );
        };
        let mut ident = ident(&port.name);
        if fields.iter().any(|earlier| earlier.ident == ident) {
            ident = format!("{ident}_{index}");
        }
        fields.push(Field {
            name: port.name.to_string(),
            ident,
            ty,
            dims: port.shape.clone(),
        });
    }
    Ok(fields)
}

/// A field's name made of a port's, which may be any text.
fn ident(name: &str) -> String {
    let letter = |c: char| {
        let plain = c.is_ascii_alphanumeric();
        if plain { c.to_ascii_lowercase() } else { '_' }
    };
    let plain: String = name.chars().map(letter).collect();
    let plain = plain.trim_matches('_');
    match plain.chars().next() {
        None => "tensor".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("tensor_{plain}"),
        _ if KEYWORDS.contains(&plain) => format!("{plain}_tensor"),
        _ => plain.to_owned(),
    }
}

/// Rust's words in lower case that no field may have.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

fn zero(ty: TensorType) -> &'static str {
    match ty {
        TensorType::Fp16 | TensorType::Bf16 | TensorType::Fp32 => "0.0_f32",
        TensorType::Fp64 => "0.0_f64",
        TensorType::U8 => "0_u8",
        TensorType::I32 => "0_i32",
        TensorType::I64 => "0_i64",
    }
}

impl Field {
    /// The type of its numbers in JSON, where halves are ordinary numbers.
    fn json_type(&self) -> &'static str {
        match self.ty {
            TensorType::Fp16 | TensorType::Bf16 | TensorType::Fp32 => "f32",
            TensorType::Fp64 => "f64",
            TensorType::U8 => "u8",
            TensorType::I32 => "i32",
            TensorType::I64 => "i64",
        }
    }

    /// The type of its numbers in the tensor, where JSON has another.
    fn half(&self) -> Option<&'static str> {
        match self.ty {
            TensorType::Fp16 => Some("f16"),
            TensorType::Bf16 => Some("bf16"),
            _ => None,
        }
    }

    fn declare(&self, code: &mut String, list: &str) -> std::fmt::Result {
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        writeln!(code, "    /// {} [{}]", self.ty, dims.join(", "))?;
        if self.ident != self.name {
            writeln!(code, "    #[serde(rename = {:?})]", self.name)?;
        }
        writeln!(code, "    {}: {list},", self.ident)
    }

    fn pointer(&self) -> String {
        format!("/{}", self.name.replace('~', "~0").replace('/', "~1"))
    }

    /// The sizes, as the handler's `shape` wants them. No dimensions at all: a single value,
    /// which the SDK has as a list of one.
    fn dims_code(&self) -> String {
        let sizes: Vec<String> = self
            .dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => format!("Some({size})"),
                Dim::Dynamic => "None".to_owned(),
            })
            .collect();
        match sizes.is_empty() {
            true => "[Some(1)]".to_owned(),
            false => format!("[{}]", sizes.join(", ")),
        }
    }

    fn smallest_shape(&self) -> Vec<u32> {
        let sizes = self.dims.iter().map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Dynamic => 1,
        });
        let shape: Vec<u32> = sizes.collect();
        if shape.is_empty() { vec![1] } else { shape }
    }

    fn smallest(&self) -> usize {
        self.smallest_shape()
            .iter()
            .map(|size| *size as usize)
            .product()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn port(name: &str, ty: TensorType, shape: &[Dim]) -> Port {
        Port {
            name: name.into(),
            ty: Some(ty),
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn any_name_of_a_port_makes_a_field_of_its_own() {
        let names = [
            "input:0",
            "input/0",
            "Type",
            "0",
            "日本",
            "r#\"x\"",
            "fn",
            "fn_tensor",
        ];
        let ports: Vec<Port> = names
            .iter()
            .map(|name| port(name, TensorType::Fp32, &[]))
            .collect();
        let fields = fields(&ports).unwrap();
        let idents: Vec<&str> = fields.iter().map(|field| field.ident.as_str()).collect();
        assert_eq!(
            idents,
            [
                "input_0",
                "input_0_1",
                "type_tensor",
                "tensor_0",
                "tensor",
                "r__x",
                "fn_tensor",
                "fn_tensor_7"
            ]
        );
        for (field, name) in fields.iter().zip(names) {
            let mut code = String::new();
            field.declare(&mut code, "Vec<f32>").unwrap();
            assert!(code.contains(&format!("rename = {name:?}")), "{code}");
        }
    }

    #[test]
    fn a_type_that_wasi_nn_lacks_is_told() {
        let mut odd = port("labels", TensorType::U8, &[]);
        odd.ty = None;
        let error = Network::new("m", &[port("x", TensorType::U8, &[])], &[odd])
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("`labels` is of a type"),
            "{error}"
        );
        assert!(Network::new("m", &[], &[]).is_err());
    }

    /// The e2e tests build the handler of a real network; this one has what that one lacks.
    #[test]
    fn halves_are_ordinary_numbers_in_json() {
        let (open, four) = (Dim::Dynamic, Dim::Fixed(4));
        let network = Network::new(
            "halves",
            &[
                port("a/b", TensorType::Fp16, &[open, four]),
                port("n", TensorType::I64, &[]),
            ],
            &[port("y", TensorType::Bf16, &[open])],
        )
        .unwrap();
        let code = network.handler();
        for part in [
            "use aegis_guest::{Context, Failure, Json, Tensor, bf16, f16};",
            "a_b: Vec<f32>,",
            "shape(\"/a~1b\", input.a_b.len(), &[None, Some(4)])?;",
            "shape(\"/n\", input.n.len(), &[Some(1)])?;",
            "f16::from_f32(*value)",
            "y: Vec<f32>,",
        ] {
            assert!(code.contains(part), "{part} in {code}");
        }
        assert_eq!(network.sample(), r#"{"a/b":[0,0,0,0],"n":[0]}"#);
    }
}
