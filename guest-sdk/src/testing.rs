//! Native tests of handlers: a fake host whose graphs are closures.
//!
//! ```
//! use aegis_guest::{Context, Failure, Json, Tensor, testing::FakeHost};
//!
//! fn predict(ctx: &Context, Json(mail): Json<String>) -> Result<Json<bool>, Failure> {
//!     let length = [mail.len() as f32];
//!     let outputs = ctx.graph("spam")?.run(&[("length", Tensor::new(&[1, 1], &length))])?;
//!     let spam = outputs.get::<f32>("score")?.iter().any(|score| *score > 0.5);
//!     if spam {
//!         ctx.flag("spam");
//!     }
//!     Ok(Json(spam))
//! }
//!
//! let host = FakeHost::new().graph("spam", |inputs| {
//!     let length = inputs.get::<f32>("length")?;
//!     Ok(vec![("score", Tensor::from_vec(&[1, 1], vec![length[0] / 10.0]))])
//! });
//!
//! // The function itself …
//! let ctx = host.context();
//! assert_eq!(predict(&ctx, Json("hello, world".into())), Ok(Json(true)));
//! assert_eq!(host.flags(), ["spam"]);
//!
//! // … or the whole way from a request's bytes to a response's.
//! let response = host.post("application/json", r#""hi""#).answer(predict).unwrap();
//! assert_eq!(response.body, b"false");
//! ```

use crate::{
    Context, ErrorCode, Failure, GraphError, Problem, Request, Startup, Tensor, Tensors, host::fake,
};

/// A host for tests: what it is given, handlers find; what they signal, it keeps.
#[derive(Debug, Default)]
pub struct FakeHost(fake::Host);

impl FakeHost {
    /// A host with no graphs and no configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a graph: a function from its inputs to its outputs. It may fail as a host
    /// does, with [`FakeError`].
    #[must_use]
    pub fn graph<F, N>(self, name: &str, run: F) -> Self
    where
        F: Fn(&Tensors) -> Result<Vec<(N, Tensor<'static>)>, FakeError> + 'static,
        N: Into<String>,
    {
        let graph: fake::FakeGraph = std::rc::Rc::new(move |inputs| match run(inputs) {
            Ok(outputs) => Ok(outputs
                .into_iter()
                .map(|(name, tensor)| (name.into(), tensor))
                .collect()),
            Err(FakeError(code, message)) => Err((code, message)),
        });
        self.0.0.borrow_mut().graphs.insert(name.to_owned(), graph);
        self
    }

    /// Sets a configuration value, as the manifest's `[config]` would.
    #[must_use]
    pub fn config(self, key: &str, value: &str) -> Self {
        self.0
            .0
            .borrow_mut()
            .config
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Has this kept of a session, as an earlier request would have left it, or another one
    /// that is under way.
    pub fn keep(&self, session: &str, state: &[u8]) {
        let mut host = self.0.0.borrow_mut();
        host.last_revision += 1;
        let kept = (state.to_vec(), host.last_revision);
        host.sessions.insert(session.to_owned(), kept);
    }

    /// Lets go of a session, as a host does when its time is up.
    pub fn let_go(&self, session: &str) {
        self.0.0.borrow_mut().sessions.remove(session);
    }

    /// What is kept of a session.
    #[must_use]
    pub fn kept(&self, session: &str) -> Option<Vec<u8>> {
        let host = self.0.0.borrow();
        host.sessions.get(session).map(|(state, _)| state.clone())
    }

    /// The context of a request without a body.
    #[must_use]
    pub fn context(&self) -> Context {
        self.request(Request {
            id: "test".to_owned(),
            content_type: None,
            headers: Vec::new(),
            query: Vec::new(),
            body: Vec::new(),
        })
    }

    /// The context of a request with this body.
    #[must_use]
    pub fn post(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Context {
        self.request(Request {
            id: "test".to_owned(),
            content_type: Some(content_type.to_owned()),
            headers: Vec::new(),
            query: Vec::new(),
            body: body.into(),
        })
    }

    /// The context of this request.
    #[must_use]
    pub fn request(&self, request: Request) -> Context {
        Context::new(request, self.0.clone())
    }

    /// What an `init` function is given.
    #[must_use]
    pub fn startup(&self) -> Startup {
        Startup::new(self.0.clone())
    }

    /// The flags that were raised so far, in order.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        self.0.0.borrow().flags.clone()
    }

    /// The values that were recorded so far, in order.
    #[must_use]
    pub fn records(&self) -> Vec<(String, f64)> {
        self.0.0.borrow().records.clone()
    }
}

/// The error of a fake graph, as wasi:nn reports it: a code and the host's words.
#[derive(Clone, Debug)]
pub struct FakeError(pub ErrorCode, pub String);

/// So that `?` works on [`Tensors::get`] in a fake graph.
impl From<GraphError> for FakeError {
    fn from(error: GraphError) -> Self {
        Self(ErrorCode::InvalidArgument, error.to_string())
    }
}

/// What a test says of a failed answer: the [`Problem`] of an `InvalidInput`.
#[must_use]
pub fn problem<T>(answer: &Result<T, Failure>) -> Option<&Problem> {
    match answer {
        Err(Failure::InvalidInput(problem)) => Some(problem),
        _ => None,
    }
}
