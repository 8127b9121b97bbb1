//! Whole handlers against the fake host: what goes wrong says where and why, and is
//! answered as whose fault it is.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use aegis_guest::{
    Context, Either, ErrorCode, Failure, FromRequest, GraphError, Json, NamedTensor, Request,
    Response, SessionError, Startup, Tensor, Text, bf16, f16,
    testing::{FakeError, FakeHost, problem},
};

fn doubles() -> FakeHost {
    FakeHost::new().graph("double", |inputs| {
        let doubled = inputs.get::<f32>("x")?.iter().map(|x| x * 2.0).collect();
        Ok(vec![("y", Tensor::from_vec(&inputs.shape("x")?, doubled))])
    })
}

/// A host whose graph fails with this code and these words.
fn fails(code: ErrorCode, words: &'static str) -> FakeHost {
    FakeHost::new().graph("double", move |_| {
        Err::<Vec<(String, _)>, _>(FakeError(code, words.to_owned()))
    })
}

fn double(ctx: &Context, Json(x): Json<Vec<f32>>) -> Result<Json<Vec<f32>>, Failure> {
    let shape = [u32::try_from(x.len())?];
    let outputs = ctx
        .graph("double")?
        .run(&[("x", Tensor::new(&shape, &x))])?;
    Ok(Json(outputs.get::<f32>("y")?.to_vec()))
}

#[test]
fn a_request_goes_the_whole_way_through_a_graph() {
    let response = doubles()
        .post("application/json", "[1, 2.5]")
        .answer(double)
        .unwrap();
    assert_eq!(response, Response::new("application/json", "[2.0,5.0]"));
}

#[test]
fn what_the_host_says_of_a_run_becomes_the_failure_that_fits() {
    let cases = [
        (
            ErrorCode::Timeout,
            "500 ms are over",
            Failure::timeout("500 ms are over"),
        ),
        (
            ErrorCode::RuntimeError,
            "overloaded: 64 wait",
            Failure::overloaded("64 wait"),
        ),
        (
            ErrorCode::InvalidArgument,
            "no input `x`",
            Failure::internal("graph `double`: no input `x` (ErrorCode::InvalidArgument)"),
        ),
    ];
    for (code, words, failure) in cases {
        let host = fails(code, words);
        assert_eq!(double(&host.context(), Json(vec![1.0])), Err(failure));
    }
}

#[test]
fn a_handler_may_say_itself_what_an_error_of_a_graph_means() {
    let ctx = fails(ErrorCode::InvalidArgument, "sequence over 512").context();
    let error = ctx.graph("double").unwrap().run(&[]).unwrap_err();
    assert!(matches!(
        error,
        GraphError::Host {
            code: ErrorCode::InvalidArgument,
            ..
        }
    ));
}

#[test]
fn a_shape_that_is_not_of_the_elements_is_named_before_it_leaves() {
    let ctx = doubles().context();
    let graph = ctx.graph("double").unwrap();
    let error = graph
        .run(&[("x", Tensor::new(&[2, 2], &[1.0_f32; 3]))])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "graph `double`: input `x` of shape [2, 2] wants 4 elements and has 3"
    );
    let error = graph
        .run(&[("x", Tensor::new(&[u32::MAX; 9], &[0_u8]))])
        .unwrap_err();
    assert!(error.to_string().contains("uncountably many"));
}

#[test]
fn a_tensor_asked_for_by_a_wrong_name_or_type_is_told_by_what_there_is() {
    let ctx = doubles().context();
    let graph = ctx.graph("double").unwrap();
    let outputs = graph.run(&[("x", Tensor::new(&[1], &[1.0_f32]))]).unwrap();
    assert_eq!(
        outputs.get::<f32>("z").unwrap_err().to_string(),
        "there is no tensor `z`: there is `y`"
    );
    assert_eq!(
        outputs.get::<i64>("y").unwrap_err().to_string(),
        "tensor `y` holds TensorType::Fp32, not TensorType::I64"
    );
    assert_eq!(
        outputs.named("y").unwrap(),
        NamedTensor::new("y", &[1], &[2.0_f32])
    );
    assert_eq!(
        ctx.graph("treble").unwrap_err().to_string(),
        "graph `treble`: the test gave its fake host no graph `treble` (ErrorCode::NotFound)"
    );
}

#[test]
fn half_floats_go_in_and_out_as_themselves() {
    let host = FakeHost::new().graph("cast", |inputs| {
        let halves = inputs.get::<f16>("x")?;
        let cast = halves.iter().map(|x| bf16::from_f32(x.to_f32())).collect();
        Ok(vec![("y", Tensor::from_vec(&[1], cast))])
    });
    let ctx = host.context();
    let x = [f16::from_f32(1.5)];
    let outputs = ctx
        .graph("cast")
        .unwrap()
        .run(&[("x", Tensor::new(&[1], &x))])
        .unwrap();
    assert_eq!(*outputs.get::<bf16>("y").unwrap(), [bf16::from_f32(1.5)]);
}

fn ask(content_type: Option<&str>, body: &[u8]) -> Request {
    Request {
        id: "a".into(),
        content_type: content_type.map(str::to_owned),
        headers: Vec::new(),
        query: Vec::new(),
        body: body.to_vec(),
    }
}

#[test]
fn the_content_type_chooses_between_two_inputs() {
    type Input<'r> = Either<Json<u8>, Text<&'r str>>;
    let cases = [
        (Some("application/json"), Either::First(Json(7))),
        (Some("application/problem+json"), Either::First(Json(7))),
        (Some("text/plain; charset=utf-8"), Either::Second(Text("7"))),
        (None, Either::First(Json(7))),
    ];
    for (content_type, expected) in cases {
        assert_eq!(Input::from_request(&ask(content_type, b"7")), Ok(expected));
    }
    assert_eq!(
        Input::from_request(&ask(Some("image/png"), b"7")),
        Err(Failure::unsupported_media_type(
            Some("image/png"),
            &["application/json", "text/plain"]
        ))
    );
}

#[test]
fn text_that_is_no_utf8_is_the_callers_mistake() {
    let request = ask(Some("text/plain"), b"\xff");
    let answer = Text::<&str>::from_request(&request);
    assert!(
        problem(&answer)
            .unwrap()
            .message
            .starts_with("the body is not UTF-8")
    );
}

#[test]
fn an_input_that_borrows_is_not_copied() {
    fn shout(_: &Context, Text(text): Text<&str>) -> Result<Text<String>, Failure> {
        Ok(Text(text.to_uppercase()))
    }
    let response = FakeHost::new()
        .post("text/plain", "hey")
        .answer(shout)
        .unwrap();
    assert_eq!(response.body, b"HEY");
}

#[test]
fn init_is_given_the_configuration_and_its_errors_are_words() {
    fn load(startup: &Startup) -> Result<usize, Failure> {
        startup.config_parse("limit", 10)
    }
    assert_eq!(load(&FakeHost::new().startup()), Ok(10));
    assert_eq!(load(&FakeHost::new().config("limit", "3").startup()), Ok(3));
    let failure = load(&FakeHost::new().config("limit", "-1").startup()).unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("config `limit` is `-1`, not a usize")
    );
}

mod every_form_of_the_macro_type_checks {
    use aegis_guest::{Context, Failure, InferenceRequest, InferenceResponse, Json, Startup, Text};

    fn load(_: &Startup) -> Result<String, std::fmt::Error> {
        Ok(String::new())
    }

    fn predict(_: &Context, Json(x): Json<u8>) -> Result<Json<u8>, Failure> {
        Ok(Json(x))
    }

    fn predict_with(_: &Context, state: &str, _: Text<&str>) -> Result<Json<usize>, Failure> {
        Ok(Json(state.len()))
    }

    fn infer(_: &Context, request: InferenceRequest) -> Result<InferenceResponse, Failure> {
        Ok(InferenceResponse::new(request.inputs))
    }

    fn infer_with(
        ctx: &Context,
        _: &str,
        request: InferenceRequest,
    ) -> Result<InferenceResponse, Failure> {
        infer(ctx, request)
    }

    aegis_guest::handler!(predict);
    aegis_guest::handler! { predict: predict }
    aegis_guest::handler! { infer: infer }
    aegis_guest::handler! { predict: predict, infer: infer }
    aegis_guest::handler! { init: load, predict: predict_with }
    aegis_guest::handler! { init: load, infer: infer_with }
    aegis_guest::handler! { init: load, predict: predict_with, infer: infer_with }
}

#[test]
fn a_session_is_read_kept_and_forgotten() {
    let host = FakeHost::new();
    host.keep("ann", b"before");
    let ctx = host.context();
    let mut session = ctx.session("ann").unwrap();
    assert_eq!(session.state(), Some(&b"before"[..]));
    session.keep(b"now").unwrap();
    session.keep(b"later").unwrap();
    assert_eq!(host.kept("ann"), Some(b"later".to_vec()));
    session.forget().unwrap();
    assert_eq!((session.state(), host.kept("ann")), (None, None));
    session.keep(b"anew").unwrap();
    assert_eq!(host.kept("ann"), Some(b"anew".to_vec()));
}

#[test]
fn what_another_request_kept_meanwhile_is_not_lost() {
    let host = FakeHost::new();
    let ctx = host.context();
    let mut session = ctx.session("ann").unwrap();
    host.keep("ann", b"the other's");
    let conflict = session.keep(b"mine").unwrap_err();
    assert!(matches!(conflict, SessionError::Conflict { .. }));
    assert_eq!(session.forget().unwrap_err(), conflict);
    assert_eq!(host.kept("ann"), Some(b"the other's".to_vec()));
    let failure = Failure::from(conflict);
    assert!(
        matches!(&failure, Failure::InvalidInput(problem) if problem.message.contains("one after the other"))
    );

    // So it is when the host let go of what was read.
    let mut session = ctx.session("ann").unwrap();
    host.let_go("ann");
    assert!(session.keep(b"mine").is_err());
}

#[test]
fn a_sessions_key_and_state_have_bounds() {
    let ctx = FakeHost::new().context();
    for key in ["", &"k".repeat(257)] {
        let error = ctx.session(key).unwrap_err();
        assert!(matches!(error, SessionError::InvalidKey { .. }), "{error}");
        assert!(matches!(Failure::from(error), Failure::InvalidInput(_)));
    }
    let mut session = ctx.session("ann").unwrap();
    let error = session.keep(&vec![0; (64 << 10) + 1]).unwrap_err();
    assert!(error.to_string().contains("65537 bytes"), "{error}");
    assert!(matches!(Failure::from(error), Failure::Internal(_)));
}
