//! Objects of kinds that Kubernetes does not have itself, held to their schemas: values by the
//! validators of the npm packages, unknown keys (which those let pass) by TypeScript, which refuses
//! them in a literal of a known type.

use std::{fmt::Write as _, process::Command};

use serde_json::Value;

use crate::tools::{find, missing, root, succeed};

/// Kind, package and module.
const KINDS: [(&str, &str); 4] = [
    ("ScaledObject", "@kubernetes-models/keda/keda.sh/v1alpha1"),
    (
        "ServiceMonitor",
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    ),
    (
        "PrometheusRule",
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    ),
    (
        "HTTPRoute",
        "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
    ),
];

/// What the schemas say of the objects: nothing, if they are right. `None` without the tools.
pub(crate) fn complaints(objects: &[Value]) -> Option<String> {
    let npm = root().join(".tools/npm");
    if !npm.join("PACKAGES").exists() {
        missing(".tools/npm");
        return None;
    }
    let node = find("node", "npm")?;
    // Inside the folder, so that the packages are found.
    let folder = tempfile::tempdir_in(&npm).unwrap();
    let (mut typed, mut checked) = (String::new(), String::new());
    for (kind, module) in KINDS {
        writeln!(typed, "import type {{ I{kind} }} from {module:?};").unwrap();
        writeln!(checked, "import {{ {kind} }} from {module:?};").unwrap();
    }
    for (index, object) in objects.iter().enumerate() {
        let kind = object["kind"].as_str().unwrap();
        assert!(
            KINDS.iter().any(|(known, _)| *known == kind),
            "{kind} has no schema here"
        );
        writeln!(typed, "export const o{index}: I{kind} = {object};").unwrap();
        writeln!(checked, "new {kind}({object}).validate();").unwrap();
    }
    let (types, values) = (folder.path().join("o.ts"), folder.path().join("o.mjs"));
    std::fs::write(&types, typed).unwrap();
    std::fs::write(&values, checked).unwrap();
    let mut said = String::new();
    let mut tsc = Command::new(npm.join("node_modules/.bin/tsc"));
    tsc.args([
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "nodenext",
    ])
    .arg(&types);
    for command in [&mut tsc, Command::new(node).arg(&values)] {
        let output = command.current_dir(&npm).output().expect("the tool starts");
        if !output.status.success() {
            said.push_str(&String::from_utf8_lossy(&output.stdout));
            said.push_str(&String::from_utf8_lossy(&output.stderr));
        }
    }
    Some(said)
}

#[test]
fn the_schemas_see_unknown_keys_and_wrong_values() {
    let object = |text: &str| crate::tools::documents(text);
    let wrong = "
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: { name: x }
spec:
  selector: {}
  endpoints: [{ port: http, interval: 15x, intervall: 15s }]
";
    let Some(said) = complaints(&object(wrong)) else {
        return;
    };
    assert!(said.contains("intervall"), "{said}");
    assert!(said.contains("must match pattern"), "{said}");
    let wrong = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: x }
spec: { scaleTargetRef: { name: x }, minReplicas: 3, triggers: [] }
";
    let said = complaints(&object(wrong)).unwrap();
    assert!(said.contains("minReplicas"), "{said}");
}

#[test]
fn kubectl_and_the_validator_are_the_ones_that_were_asked_for() {
    if let Some(kubectl) = find("kubectl", "python/bin") {
        let version = succeed(Command::new(kubectl).args(["version", "--client"]));
        assert!(version.contains("Kustomize Version: v5"), "{version}");
    }
}
