//! Uses `wasi:nn` by its bare bindings, rightly and wrongly, as the query says. What an
//! interface answers with an error is told as `{"error": {"code", "data"}}` with status 200,
//! so that it is seen to be a value that a guest can act on; only a timeout ends the request.
//!
//! | `do` | what happens |
//! |---|---|
//! | `compute` (or nothing) | runs `graph` on one tensor, `input` (`x`) of type `ty` (fp32) and shape `dims` (`3,2`; `` is rank 0): the body, or `bytes` zeros, or as many as fit; `times` over (1) |
//! | `pair` | runs `graph` on two tensors, `a` and `b` their names |
//! | `same-handle`, `dropped-tensor`, `dropped-context`, `forged-handle` | runs with a handle given twice, dropped, of a dropped context, never given |
//! | `dropped-graph` | runs in a context whose graph is dropped |
//! | `load` | loads the body as `enc` for `target`, in two buffers if `split` says where, and runs it on `dims` zeros if those are there |
//! | `load-many` | loads the body `n` times and keeps the graphs; then drops them and loads once more |
//! | `many-tensors` | makes `n` tensors of `size` bytes and runs `graph` on one more; drops all, and runs it on what `compute` would |
//! | `many-contexts` | makes contexts until refused, drops one and makes another |
//! | `many-graphs`, `many-errors` | opens a graph, or fails to, for ever, and keeps all handles |
//! | `long-names` | runs `graph` with 64 names that are one string of `bytes` |
//! | `unusable` | makes a tensor of `n` dimensions and says what it looks like |
//! | `grow` | grows memory until refused, and answers how far that was |

use aegis_guest::{
    __private::bindings::host::wasi::nn::{
        errors::{Error, ErrorCode},
        graph::{self, ExecutionTarget, Graph, GraphEncoding},
        inference::GraphExecutionContext,
        tensor::Tensor,
    },
    Context, Failure, Request, Response, TensorType,
};
use serde_json::{Value, json};

/// How a step ends early: by an error of wasi:nn, or by one of the test's own.
enum Stop {
    Nn(Error),
    Test(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Nn(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Test(failure)
    }
}

type Step<T> = Result<T, Stop>;

fn predict(ctx: &Context, request: &Request) -> Result<Response, Failure> {
    let asked = Asked { ctx, request };
    let ended = match ctx.query("do").unwrap_or("compute") {
        "compute" => asked.compute(),
        "pair" => asked.pair(),
        "same-handle" => asked.same_handle(),
        "dropped-tensor" => asked.dropped_tensor(),
        "dropped-context" => asked.dropped_context(),
        "forged-handle" => asked.forged_handle(),
        "dropped-graph" => asked.dropped_graph(),
        "load" => asked.load(),
        "load-many" => asked.load_many(),
        "many-tensors" => asked.many_tensors(),
        "many-contexts" => asked.many_contexts(),
        "many-graphs" => asked.many_graphs(),
        "many-errors" => asked.many_errors(),
        "long-names" => asked.long_names(),
        "unusable" => asked.unusable(),
        "grow" => Ok(json!({ "pages": grow() })),
        other => Err(Stop::Test(Failure::invalid_field(
            "do",
            format!("`{other}` is nothing I do"),
        ))),
    };
    match ended {
        Ok(value) => Ok(answer(&value)),
        Err(Stop::Test(failure)) => Err(failure),
        Err(Stop::Nn(error)) if error.code() == ErrorCode::Timeout => {
            Err(Failure::timeout(error.data()))
        }
        Err(Stop::Nn(error)) => Ok(answer(&json!({ "error": said(&error) }))),
    }
}

aegis_guest::handler!(predict);

fn answer(value: &Value) -> Response {
    Response::new("application/json", value.to_string())
}

fn said(error: &Error) -> Value {
    json!({ "code": format!("{:?}", error.code()), "data": error.data() })
}

fn shown((name, tensor): &(String, Tensor)) -> Value {
    json!({
        "name": name,
        "ty": format!("{:?}", tensor.ty()),
        "dims": tensor.dimensions(),
        "data": tensor.data(),
    })
}

struct Asked<'a> {
    ctx: &'a Context,
    request: &'a Request,
}

impl Asked<'_> {
    fn number(&self, name: &str) -> Step<Option<usize>> {
        let parsed = self.ctx.query(name).map(str::parse).transpose();
        parsed.map_err(|_| Stop::Test(Failure::invalid_field(name, "a number is wanted")))
    }

    fn dims(&self) -> Step<Vec<u32>> {
        let words = self
            .ctx
            .query("dims")
            .unwrap_or("3,2")
            .split_terminator(',');
        words
            .map(|word| {
                word.parse()
                    .map_err(|_| Failure::invalid_field("dims", "numbers"))
            })
            .collect::<Result<_, _>>()
            .map_err(Stop::Test)
    }

    fn ty(&self) -> Step<(TensorType, usize)> {
        Ok(match self.ctx.query("ty").unwrap_or("fp32") {
            "fp16" => (TensorType::Fp16, 2),
            "fp32" => (TensorType::Fp32, 4),
            "fp64" => (TensorType::Fp64, 8),
            "bf16" => (TensorType::Bf16, 2),
            "u8" => (TensorType::U8, 1),
            "i32" => (TensorType::I32, 4),
            "i64" => (TensorType::I64, 8),
            _ => return Err(Failure::invalid_field("ty", "a type is wanted").into()),
        })
    }

    /// The tensor that the query and the body describe.
    fn tensor(&self) -> Step<Tensor> {
        let (dims, (ty, size)) = (self.dims()?, self.ty()?);
        let fitting = dims
            .iter()
            .fold(size, |bytes, dim| bytes.saturating_mul(*dim as usize));
        if !self.request.body.is_empty() {
            return Ok(Tensor::new(&dims, ty, &self.request.body));
        }
        let bytes = self.number("bytes")?.unwrap_or(fitting);
        Ok(Tensor::new(&dims, ty, &vec![0; bytes]))
    }

    fn input(&self) -> String {
        self.ctx.query("input").unwrap_or("x").to_owned()
    }

    fn graph(&self) -> Step<Graph> {
        Ok(graph::load_by_name(
            self.ctx.query("graph").unwrap_or("reshape-fp32"),
        )?)
    }

    fn context(&self) -> Step<GraphExecutionContext> {
        Ok(self.graph()?.init_execution_context()?)
    }

    fn compute(&self) -> Step<Value> {
        let context = self.context()?;
        let times = self.number("times")?.unwrap_or(1);
        let mut outputs = Vec::new();
        for _ in 0..times {
            outputs = context.compute(vec![(self.input(), self.tensor()?)])?;
        }
        if self.ctx.query("quiet").is_some() {
            let sizes: Vec<_> = outputs
                .iter()
                .map(|(_, output)| output.data().len())
                .collect();
            return Ok(json!({ "bytes": sizes }));
        }
        Ok(json!({ "outputs": outputs.iter().map(shown).collect::<Vec<_>>() }))
    }

    fn pair(&self) -> Step<Value> {
        let name = |key| self.ctx.query(key).unwrap_or("x").to_owned();
        let inputs = vec![(name("a"), self.tensor()?), (name("b"), self.tensor()?)];
        let outputs = self.context()?.compute(inputs)?;
        Ok(json!({ "outputs": outputs.iter().map(shown).collect::<Vec<_>>() }))
    }

    fn same_handle(&self) -> Step<Value> {
        let tensor = self.tensor()?;
        let again = raw::tensor(tensor.handle());
        let inputs = vec![(self.input(), tensor), (self.input(), again)];
        let outputs = self.context()?.compute(inputs)?;
        Ok(json!({ "outputs": outputs.len() }))
    }

    fn dropped_tensor(&self) -> Step<Value> {
        let tensor = self.tensor()?;
        let gone = raw::tensor(tensor.handle());
        drop(tensor);
        let outputs = self.context()?.compute(vec![(self.input(), gone)])?;
        Ok(json!({ "outputs": outputs.len() }))
    }

    fn forged_handle(&self) -> Step<Value> {
        let inputs = vec![(self.input(), raw::tensor(1_000_000))];
        let outputs = self.context()?.compute(inputs)?;
        Ok(json!({ "outputs": outputs.len() }))
    }

    fn dropped_context(&self) -> Step<Value> {
        let context = self.context()?;
        let gone = raw::context(context.handle());
        drop(context);
        let outputs = gone.compute(vec![(self.input(), self.tensor()?)])?;
        Ok(json!({ "outputs": outputs.len() }))
    }

    fn dropped_graph(&self) -> Step<Value> {
        let graph = self.graph()?;
        let context = graph.init_execution_context()?;
        drop(graph);
        let outputs = context.compute(vec![(self.input(), self.tensor()?)])?;
        Ok(json!({ "outputs": outputs.iter().map(shown).collect::<Vec<_>>() }))
    }

    fn loaded(&self) -> Step<Graph> {
        let encoding = match self.ctx.query("enc").unwrap_or("onnx") {
            "onnx" => GraphEncoding::Onnx,
            "openvino" => GraphEncoding::Openvino,
            "autodetect" => GraphEncoding::Autodetect,
            "pytorch" => GraphEncoding::Pytorch,
            _ => return Err(Failure::invalid_field("enc", "an encoding is wanted").into()),
        };
        let target = match self.ctx.query("target").unwrap_or("cpu") {
            "cpu" => ExecutionTarget::Cpu,
            "gpu" => ExecutionTarget::Gpu,
            _ => ExecutionTarget::Tpu,
        };
        let body = self.request.body.clone();
        let buffers = match self.number("split")? {
            Some(at) if at <= body.len() => {
                let (first, second) = body.split_at(at);
                vec![first.to_vec(), second.to_vec()]
            }
            _ => vec![body],
        };
        Ok(graph::load(&buffers, encoding, target)?)
    }

    fn load(&self) -> Step<Value> {
        let graph = self.loaded()?;
        if self.ctx.query("dims").is_none() {
            return Ok(json!({ "loaded": true }));
        }
        let context = graph.init_execution_context()?;
        // The graph lives in its context.
        drop(graph);
        let (dims, (ty, size)) = (self.dims()?, self.ty()?);
        let bytes = dims.iter().fold(size, |bytes, dim| bytes * *dim as usize);
        let tensor = Tensor::new(&dims, ty, &vec![0; bytes]);
        let outputs = context.compute(vec![(self.input(), tensor)])?;
        Ok(json!({ "outputs": outputs.iter().map(shown).collect::<Vec<_>>() }))
    }

    fn load_many(&self) -> Step<Value> {
        let mut kept = Vec::new();
        let refused = loop {
            match self.loaded() {
                Ok(graph) => kept.push(graph.init_execution_context()?),
                Err(Stop::Nn(error)) => break said(&error),
                Err(other) => return Err(other),
            }
            if kept.len() >= self.number("n")?.unwrap_or(100) {
                break Value::Null;
            }
        };
        let loaded = kept.len();
        drop(kept);
        let again = self.loaded().is_ok();
        Ok(json!({ "loaded": loaded, "refused": refused, "again": again }))
    }

    fn many_tensors(&self) -> Step<Value> {
        let size = self.number("size")?.unwrap_or(0);
        let (data, dims) = (vec![0; size], [u32::try_from(size).unwrap_or(u32::MAX)]);
        let make = || Tensor::new(&dims, TensorType::U8, &data);
        let kept: Vec<_> = (0..self.number("n")?.unwrap_or(10))
            .map(|_| make())
            .collect();
        let run = |tensor| -> Step<Value> {
            let ended = self.context()?.compute(vec![(self.input(), tensor)]);
            Ok(match ended {
                Ok(_) => Value::Null,
                Err(error) => said(&error),
            })
        };
        let full = run(make())?;
        drop(kept);
        Ok(json!({ "full": full, "after": run(self.tensor()?)? }))
    }

    fn many_contexts(&self) -> Step<Value> {
        let graph = self.graph()?;
        let mut kept = Vec::new();
        let refused = loop {
            match graph.init_execution_context() {
                Ok(context) => kept.push(context),
                Err(error) => break said(&error),
            }
        };
        let held = kept.len();
        kept.pop();
        let again = graph.init_execution_context().is_ok();
        Ok(json!({ "held": held, "refused": refused, "again": again }))
    }

    fn many_graphs(&self) -> Step<Value> {
        let mut kept = Vec::new();
        loop {
            kept.push(self.graph()?);
        }
    }

    fn many_errors(&self) -> Step<Value> {
        let name = "n".repeat(self.number("bytes")?.unwrap_or(1 << 20));
        let mut kept = Vec::new();
        loop {
            kept.extend(graph::load_by_name(&name).err());
        }
    }

    fn long_names(&self) -> Step<Value> {
        let name = "n".repeat(self.number("bytes")?.unwrap_or(1 << 20));
        let context = self.context()?;
        let inputs = (0..64)
            .map(|_| Ok((raw::same_bytes(&name), self.tensor()?)))
            .collect::<Step<Vec<_>>>()?;
        let ended = context.compute(inputs);
        Ok(json!({ "computed": ended.is_ok() }))
    }

    fn unusable(&self) -> Step<Value> {
        let dims = vec![1; self.number("n")?.unwrap_or(1_000_000)];
        let tensor = Tensor::new(&dims, TensorType::U8, &[0]);
        let seen = json!({ "rank": tensor.dimensions().len(), "bytes": tensor.data().len() });
        let ended = self.context()?.compute(vec![(self.input(), tensor)]);
        Ok(json!({ "seen": seen, "error": ended.err().as_ref().map(said) }))
    }
}

#[cfg(target_arch = "wasm32")]
fn grow() -> usize {
    // One page of WebAssembly memory is 64 KiB; -1 is what a refusal looks like.
    while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
    core::arch::wasm32::memory_size::<0>()
}

#[cfg(not(target_arch = "wasm32"))]
fn grow() -> usize {
    0
}

mod raw {
    //! Handles and strings as a guest in another language may make them up.
    #![expect(unsafe_code, reason = "what is asked for")]

    use super::{GraphExecutionContext, Tensor};

    pub(crate) fn tensor(handle: u32) -> Tensor {
        // SAFETY: there is none; that is the test.
        unsafe { Tensor::from_handle(handle) }
    }

    pub(crate) fn context(handle: u32) -> GraphExecutionContext {
        // SAFETY: as above.
        unsafe { GraphExecutionContext::from_handle(handle) }
    }

    /// A string that is `of`, in the same memory.
    pub(crate) fn same_bytes(of: &str) -> String {
        // SAFETY: as above. The call that it is passed to must not return, or it is freed
        // many times.
        unsafe { String::from_raw_parts(of.as_ptr().cast_mut(), of.len(), of.len()) }
    }
}
