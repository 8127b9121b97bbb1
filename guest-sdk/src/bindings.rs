//! What wit-bindgen makes of `wit/`: the imports that every handler may use, and one
//! world for each export, so that a component exports exactly what its author gave (the
//! worlds' sections merge when the component is linked).
//! Nothing here is public API; the rest of the crate puts friendlier names around it.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::restriction,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

/// The imports.
pub mod host {
    wit_bindgen::generate!({
        world: "host",
        path: "../wit",
        generate_all,
        runtime_path: "::aegis_guest::__private::wit_bindgen::rt",
    });
}

/// The export `predict`, and the types that all exports share.
pub mod predict {
    wit_bindgen::generate!({
        world: "predict-export",
        path: "../wit",
        with: { "aegis:inference/types@0.1.0/failure": ::aegis_guest::Failure },
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_predict",
        runtime_path: "::aegis_guest::__private::wit_bindgen::rt",
    });
}

/// The export `infer`.
pub mod infer {
    wit_bindgen::generate!({
        world: "infer-export",
        path: "../wit",
        with: {
            "aegis:inference/types@0.1.0/failure": ::aegis_guest::Failure,
            "aegis:inference/types@0.1.0/problem": ::aegis_guest::Problem,
            "aegis:inference/types@0.1.0/named-tensor": ::aegis_guest::NamedTensor,
            "aegis:inference/types@0.1.0/datatype": ::aegis_guest::Datatype,
            "aegis:inference/types@0.1.0/parameter": ::aegis_guest::Parameter,
        },
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_infer",
        runtime_path: "::aegis_guest::__private::wit_bindgen::rt",
    });
}

/// The export `lifecycle`.
pub mod lifecycle {
    wit_bindgen::generate!({
        world: "lifecycle-export",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        runtime_path: "::aegis_guest::__private::wit_bindgen::rt",
    });
}
