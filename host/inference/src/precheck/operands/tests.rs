//! Small networks in which a step, as `Range` takes it, comes from here and there.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::Cursor;

use super::super::handmade::{field, model};
use super::super::onnx_bytes;
use super::*;

const STEP: [Operand; 1] = [Operand {
    op: "Range",
    index: 2,
    name: "delta",
    harm: "",
}];

/// The value that a caller can set, if there is one.
#[track_caller]
fn found(file: &[u8]) -> Option<String> {
    // Nothing is looked at that has not passed.
    onnx_bytes(file).unwrap();
    let model = super::onnx::model(Cursor::new(file), file.len() as u64).unwrap();
    model.caller_set(&STEP).map(|found| {
        assert_eq!(found.operand, STEP[0]);
        found.value
    })
}

fn node_of(domain: &str, op: &str, inputs: &[&str], outputs: &[&str], graphs: &[&[u8]]) -> Vec<u8> {
    let texts = |number, texts: &[&str]| -> Vec<u8> {
        texts
            .iter()
            .flat_map(|text| field(number, text.as_bytes()))
            .collect()
    };
    let graphs = graphs
        .iter()
        .flat_map(|graph| field(5, &[field(1, b"body"), field(6, graph)].concat()));
    [
        texts(1, inputs),
        texts(2, outputs),
        field(4, op.as_bytes()),
        graphs.collect(),
        field(7, domain.as_bytes()),
    ]
    .concat()
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    field(1, &node_of("", op, inputs, outputs, &[]))
}

fn range(step: &str) -> Vec<u8> {
    node("Range", &["start", "limit", step], &["y"])
}

fn input(name: &str) -> Vec<u8> {
    field(11, &field(1, name.as_bytes()))
}

/// An initializer, of no elements.
fn initializer(name: &str) -> Vec<u8> {
    let tensor = [vec![8, 0, 16, 7], field(8, name.as_bytes())].concat();
    field(5, &tensor)
}

fn of(parts: &[Vec<u8>]) -> Option<String> {
    found(&model(&parts.concat()))
}

#[test]
fn a_constant_may_be_a_step() {
    assert_eq!(of(&[initializer("c"), range("c")]), None);
    // The order of a file's fields says nothing.
    assert_eq!(of(&[range("c"), initializer("c")]), None);
    assert_eq!(of(&[node("Constant", &[], &["c"]), range("c")]), None);
    // Left out, at the end and in between.
    assert_eq!(of(&[node("Range", &["start", "limit"], &["y"])]), None);
    assert_eq!(of(&[range("")]), None);
}

#[test]
fn an_input_may_not_nor_an_initializer_that_is_its_default() {
    let c = Some("c".to_owned());
    assert_eq!(of(&[input("c"), range("c")]), c);
    assert_eq!(of(&[input("c"), initializer("c"), range("c")]), c);
    assert_eq!(of(&[initializer("c"), range("c"), input("c")]), c);
    // What comes from nowhere is not known either.
    assert_eq!(of(&[range("c")]), c);
}

#[test]
fn what_is_computed_is_as_constant_as_what_it_is_computed_from() {
    let c = Some("c".to_owned());
    let sum = node("Add", &["a", "b"], &["c"]);
    let (a, b) = (initializer("a"), node("Constant", &[], &["b"]));
    let outcome = of(&[a.clone(), b.clone(), sum.clone(), range("c")]);
    assert_eq!(outcome, None);
    assert_eq!(of(&[a.clone(), input("b"), sum, range("c")]), c);
    let shape = node("Shape", &["x"], &["c"]);
    assert_eq!(of(&[input("x"), shape, range("c")]), c);
    // Of an operator that is not ONNX's own nothing is known.
    for domain in ["", "ai.onnx", "com.microsoft"] {
        let copy = field(1, &node_of(domain, "Identity", &["a"], &["c"], &[]));
        let expected = c.clone().filter(|_| domain == "com.microsoft");
        assert_eq!(of(&[a.clone(), copy, range("c")]), expected, "{domain}");
    }
    for random in ["RandomNormalLike", "RandomNormal", "Bernoulli"] {
        let inputs = ["a"].get(..usize::from(random != "RandomNormal")).unwrap();
        let node = node(random, inputs, &["c"]);
        assert_eq!(of(&[a.clone(), node, range("c")]), c, "{random}");
    }
}

#[test]
fn a_name_that_is_given_twice_is_no_constant() {
    let c = Some("c".to_owned());
    let constant = node("Constant", &[], &["c"]);
    let again = node("Identity", &["x"], &["c"]);
    let x = input("x");
    for parts in [
        [x.clone(), constant.clone(), again.clone(), range("c")],
        [x.clone(), again.clone(), constant.clone(), range("c")],
        [x.clone(), constant, range("c"), again.clone()],
        [x, initializer("c"), range("c"), again],
    ] {
        assert_eq!(of(&parts), c);
    }
}

#[test]
fn bodies_and_branches_see_what_is_around_them() {
    let c = Some("c".to_owned());
    let within = |parts: &[Vec<u8>]| {
        let body = parts.concat();
        let deeper = field(1, &node_of("", "If", &["flag"], &["y"], &[&body]));
        field(1, &node_of("", "Loop", &["n"], &["y"], &[&deeper]))
    };
    assert_eq!(of(&[initializer("c"), within(&[range("c")])]), None);
    assert_eq!(of(&[within(&[initializer("c"), range("c")])]), None);
    assert_eq!(of(&[input("c"), within(&[range("c")])]), c);
    // A body's own inputs are what the loop makes of them, even one that hides a constant.
    let hidden = within(&[input("c"), range("c")]);
    assert_eq!(of(&[initializer("c"), hidden]), c);
    // And what is constant within is not known outside.
    assert_eq!(of(&[within(&[initializer("c")]), range("c")]), c);
    // What a branch gives is not known.
    let body = node("Constant", &[], &["b"]);
    let branch = field(1, &node_of("", "If", &["a"], &["c"], &[&body]));
    assert_eq!(of(&[initializer("a"), branch, range("c")]), c);
}

#[test]
fn functions_of_the_file_are_looked_into_and_not_relied_on() {
    let c = Some("c".to_owned());
    let body = |parts: &[Vec<u8>]| {
        let nodes = parts.iter().flat_map(|part| {
            let inner = part.get(2..).unwrap_or_default();
            field(7, inner)
        });
        let function = [
            field(1, b"Steps"),
            field(4, b"c"),
            nodes.collect(),
            field(10, b"own"),
        ];
        field(25, &function.concat())
    };
    let graph = model(&node("Relu", &["x"], &["y"]));
    assert_eq!(found(&[graph.clone(), body(&[range("c")])].concat()), c);
    let constant = body(&[node("Constant", &[], &["s"]), range("s")]);
    assert_eq!(found(&[graph, constant].concat()), None);
    // One by a name of ONNX's own.
    let own = field(25, &[field(1, b"Identity"), field(10, b"")].concat());
    let copied = model(
        &[
            initializer("a"),
            node("Identity", &["a"], &["c"]),
            range("c"),
        ]
        .concat(),
    );
    assert_eq!(found(&copied), None);
    assert_eq!(found(&[copied, own].concat()), c);
}

#[test]
fn what_is_found_is_told_by_name() {
    let named = [
        node_of("", "Range", &["a", "b", "c"], &["steps"], &[]),
        field(3, b"count"),
    ]
    .concat();
    for (node, name) in [
        (named, "count"),
        (node_of("", "Range", &["a", "b", "c"], &["y"], &[]), "y"),
    ] {
        let file = model(&[input("c"), field(1, &node)].concat());
        let model = super::onnx::model(Cursor::new(&file), file.len() as u64).unwrap();
        assert_eq!(model.caller_set(&STEP).unwrap().node, name);
    }
    // Not the same operator of somebody else.
    let other = node_of("com.example", "Range", &["a", "b", "c"], &["y"], &[]);
    assert_eq!(of(&[input("c"), field(1, &other)]), None);
}

/// An IR of these layers and edges: `(id, type, inputs)`, `(from, to, port)`.
fn ir_body(layers: &[(u32, &str, &[u32])], edges: &[(u32, u32, u32)]) -> String {
    let ports = |ports: &[u32]| -> String {
        ports
            .iter()
            .map(|port| format!("<port id=\"{port}\"><dim>1</dim></port>"))
            .collect()
    };
    let layers: String = layers
        .iter()
        .map(|(id, ty, inputs)| {
            format!(
                "<layer id=\"{id}\" name=\"l{id}\" type=\"{ty}\" version=\"opset1\"><data a=\"&lt;\"/>\
                 <input>{}</input><output><port id=\"9\"/></output></layer>",
                ports(inputs)
            )
        })
        .collect();
    let edges: String = edges
        .iter()
        .map(|(from, to, port)| {
            format!(
                "<edge from-layer=\"{from}\" from-port=\"9\" to-layer=\"{to}\" to-port=\"{port}\"/>"
            )
        })
        .collect();
    format!("<layers>{layers}</layers><edges>{edges}</edges>")
}

fn of_ir(body: &str) -> Option<CallerSet> {
    let xml =
        format!("<?xml version=\"1.0\"?><net name=\"n\" version=\"11\">{body}<rt_info/></net>");
    let model = super::ir::model(xml.as_bytes()).unwrap();
    model.caller_set(&STEP)
}

#[test]
fn an_ir_is_looked_at_as_well() {
    let range: &[u32] = &[5, 6, 7];
    // The ports' own numbers are in any order: the third one is the step.
    let of_type = |ty: &str, edge: (u32, u32, u32)| {
        let layers = [
            (0, ty, &[][..]),
            (1, "Parameter", &[]),
            (2, "Convert", &[3]),
            (4, "Range", range),
        ];
        of_ir(&ir_body(&layers, &[(1, 4, 5), (1, 4, 6), (0, 2, 3), edge]))
    };
    let found = |name: &str| {
        Some(CallerSet {
            operand: STEP[0],
            node: name.to_owned(),
            value: "layer 1".to_owned(),
        })
    };
    assert_eq!(of_type("Const", (0, 4, 7)), None);
    assert_eq!(of_type("Const", (2, 4, 7)), None);
    assert_eq!(of_type("Const", (1, 4, 7)), found("l4"));
    for (ty, edge) in [
        ("Parameter", (0, 4, 7)),
        ("Parameter", (2, 4, 7)),
        ("ReadValue", (2, 4, 7)),
        // Nothing leads to the step.
        ("Const", (0, 4, 8)),
    ] {
        assert_eq!(
            of_type(ty, edge).map(|found| found.node),
            Some("l4".to_owned()),
            "{ty}"
        );
    }
}

#[test]
fn bodies_in_an_ir_have_numbers_of_their_own() {
    let around = |within: &str| {
        let layers = format!(
            "<layer id=\"0\" name=\"c\" type=\"Const\"/><layer id=\"1\" name=\"i\" type=\"If\"><then_body>{within}</then_body>\
             <else_body><layers/></else_body></layer>"
        );
        of_ir(&format!("<layers>{layers}</layers><edges/>"))
    };
    let within = |ty: &str| {
        let layers = [(0, ty, &[][..]), (3, "Range", &[0, 1, 2])];
        ir_body(&layers, &[(0, 3, 2)])
    };
    assert_eq!(around(&within("Const")), None);
    assert_eq!(around(&within("Parameter")).unwrap().node, "l3");
    let nested = format!("{}{}", "<body>".repeat(40), "</body>".repeat(40));
    super::ir::model(format!("<net>{nested}</net>").as_bytes()).unwrap_err();
    super::ir::model(&b"<net><layer id=></net>"[..]).unwrap_err();
}
