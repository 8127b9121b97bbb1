//! `handler!`: from functions to a component's exports. Inside a component it writes the
//! exports; anywhere else it only checks the functions' types, so that a handler's crate
//! builds and is tested like any other (native linkers do not take the exports' names).

/// Makes a component of functions, exporting what is given and nothing else.
///
/// | given | signature | when it runs |
/// |---|---|---|
/// | `predict` | `fn(&Context, impl FromRequest) -> Result<impl IntoResponse, Failure>` | for each request |
/// | `infer` | `fn(&Context, InferenceRequest) -> Result<InferenceResponse, Failure>` | for each request of the tensor protocol |
/// | `init` | `fn(&Startup) -> Result<State, impl Display>` | once, at upload |
///
/// With `init`, the others take its state between their parameters:
/// `fn predict(ctx: &Context, state: &State, input: …)`. The state is kept as `init` left
/// it and is the same for every request.
///
/// ```
/// # use aegis_guest::{Context, Failure, Text};
/// fn predict(ctx: &Context, Text(name): Text<&str>) -> Result<Text<String>, Failure> {
///     Ok(Text(format!("Hello, {name}, from {}", ctx.request_id())))
/// }
///
/// aegis_guest::handler!(predict);
/// ```
///
/// ```
/// use std::collections::BTreeSet;
/// use aegis_guest::{Context, Failure, Json, Startup, Text};
///
/// fn load(startup: &Startup) -> Result<BTreeSet<String>, Failure> {
///     let words = startup.config("words")?.ok_or("the config has no `words`")?;
///     Ok(words.split(' ').map(str::to_owned).collect())
/// }
///
/// fn predict(
///     _: &Context,
///     words: &BTreeSet<String>,
///     Text(word): Text<&str>,
/// ) -> Result<Json<bool>, Failure> {
///     Ok(Json(words.contains(word)))
/// }
///
/// aegis_guest::handler! { init: load, predict: predict }
/// ```
#[macro_export]
macro_rules! handler {
    ($predict:path $(,)?) => {
        $crate::handler! { predict: $predict }
    };
    (predict: $predict:path $(,)?) => {
        $crate::__export! { predict(request) {
            let ctx = $crate::__private::context(request);
            let answer = ctx.answer($predict);
            answer
        } }
    };
    (infer: $infer:path $(,)?) => {
        $crate::__export! { infer(request) {
            $infer(&$crate::__private::infer_context(&request.id), request)
        } }
    };
    (predict: $predict:path, infer: $infer:path $(,)?) => {
        $crate::handler! { predict: $predict }
        $crate::handler! { infer: $infer }
    };
    (init: $init:path, predict: $predict:path $(,)?) => {
        const _: () = {
            $crate::__init! { $init }
            $crate::__export! { predict(request) {
                let state = STATE.get(&$crate::__private::startup(), $init)?;
                let ctx = $crate::__private::context(request);
                let answer = ctx.answer(|ctx, input| $predict(ctx, state, input));
                answer
            } }
        };
    };
    (init: $init:path, infer: $infer:path $(,)?) => {
        const _: () = {
            $crate::__init! { $init }
            $crate::__export! { infer(request) {
                let state = STATE.get(&$crate::__private::startup(), $init)?;
                $infer(&$crate::__private::infer_context(&request.id), state, request)
            } }
        };
    };
    (init: $init:path, predict: $predict:path, infer: $infer:path $(,)?) => {
        const _: () = {
            $crate::__init! { $init }
            $crate::__export! { predict(request) {
                let state = STATE.get(&$crate::__private::startup(), $init)?;
                let ctx = $crate::__private::context(request);
                let answer = ctx.answer(|ctx, input| $predict(ctx, state, input));
                answer
            } }
            $crate::__export! { infer(request) {
                let state = STATE.get(&$crate::__private::startup(), $init)?;
                $infer(&$crate::__private::infer_context(&request.id), state, request)
            } }
        };
    };
}

/// The state's place and the export that fills it.
#[doc(hidden)]
#[macro_export]
macro_rules! __init {
    ($init:path) => {
        static STATE: $crate::__private::Place = $crate::__private::Place::new();
        $crate::__export! { init { $crate::__private::init(&STATE, $init) } }
    };
}

/// One exported function; natively, the same function under no name.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (predict($request:ident) $body:block) => {
        const _: () = {
            #[allow(dead_code, reason = "native builds only check its types")]
            struct Handler;
            #[cfg(target_arch = "wasm32")]
            $crate::__private::export_predict!(Handler with_types_in $crate::__private::bindings::predict);
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn($crate::Request) -> Result<$crate::Response, $crate::Failure> =
                <Handler as $crate::__private::Predict>::predict;
            impl $crate::__private::Predict for Handler {
                fn predict($request: $crate::Request) -> Result<$crate::Response, $crate::Failure> $body
            }
        };
    };
    (infer($request:ident) $body:block) => {
        const _: () = {
            #[allow(dead_code, reason = "native builds only check its types")]
            struct Handler;
            #[cfg(target_arch = "wasm32")]
            $crate::__private::export_infer!(Handler with_types_in $crate::__private::bindings::infer);
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(
                $crate::InferenceRequest,
            ) -> Result<$crate::InferenceResponse, $crate::Failure> =
                <Handler as $crate::__private::Infer>::infer;
            impl $crate::__private::Infer for Handler {
                fn infer(
                    $request: $crate::InferenceRequest,
                ) -> Result<$crate::InferenceResponse, $crate::Failure> $body
            }
        };
    };
    (init $body:block) => {
        const _: () = {
            #[allow(dead_code, reason = "native builds only check its types")]
            struct Handler;
            #[cfg(target_arch = "wasm32")]
            $crate::__private::export_lifecycle!(Handler with_types_in $crate::__private::bindings::lifecycle);
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() = <Handler as $crate::__private::Lifecycle>::init;
            impl $crate::__private::Lifecycle for Handler {
                fn init() $body
            }
        };
    };
}
