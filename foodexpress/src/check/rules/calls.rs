//! Synchronous calls are exceptions: each is declared with its reason, and none of them asks whether somebody may.

use std::collections::BTreeMap;

use kernel::manifest::CallDoc;

use super::{arrows, planted, rule};
use crate::check::inputs::Inputs;
use crate::check::{Finding, Rule};

pub(super) const RULES: &[Rule] = &[
    rule("F7", "a service calls nobody synchronously unless the call is declared with its reason", undeclared, |i| {
        i.put_package("services/planted", &["kernel", "reqwest"])
    }),
    rule("F10", "no service asks auth at request time", asks_auth, |i| {
        let call = CallDoc { service: "auth", operation: "GET /internal/may", reason: "planted" };
        i.manifests.push(kernel::manifest::Manifest { calls: vec![call], ..planted() });
        i.put_violation("services/planted/src/lib.rs", "//! Planted.\nconst CALL: &str = \"GET /internal/may\";\n", 2)
    }),
];

const CLIENTS: &[&str] =
    &["reqwest", "hyper", "hyper-util", "tonic", "ureq", "isahc", "surf", "awc", "attohttpc", "curl"];

fn undeclared(inputs: &Inputs) -> Vec<Finding> {
    let calls =
        |folder: &str| inputs.manifests.iter().any(|m| folder == format!("services/{}", m.name) && !m.calls.is_empty());
    let why = "declare the call with its reason, or hear an event instead";
    let mut found = arrows::dependencies(inputs, CLIENTS, |p| p.is_service() && !calls(&p.folder), why);
    for manifest in &inputs.manifests {
        for call in &manifest.calls {
            let place = inputs.in_service(manifest.name, call.operation);
            let offered = |operation: &str| {
                let callee = inputs.manifests.iter().find(|m| m.name == call.service);
                callee.is_some_and(|m| m.routes.iter().any(|r| format!("{} {}", r.method, r.path) == operation))
            };
            if call.reason.trim().is_empty() {
                found.push(Finding::at(
                    place.clone(),
                    format!("{} calls {} without a reason", manifest.name, call.service),
                ));
            }
            if !offered(call.operation) {
                found.push(Finding::at(
                    place,
                    format!("{} calls {}, which {} does not offer", manifest.name, call.operation, call.service),
                ));
            }
        }
    }
    for (service, file) in inputs.service_code() {
        let declared = inputs.manifests.iter().any(|m| m.name == service && !m.calls.is_empty());
        for (line, code) in file.source().shipped().filter(|(_, code)| {
            !declared && (code.contains("TcpStream::connect") || code.contains("directory.instances("))
        }) {
            found.push(Finding::new(&*file.path, line, format!("{service} connects to somebody: {}", code.trim())));
        }
    }
    found.extend(cycles(inputs));
    found
}

/// A service that waits for itself through others never gets its answer.
fn cycles(inputs: &Inputs) -> Vec<Finding> {
    let calls: BTreeMap<&str, Vec<&CallDoc>> =
        inputs.manifests.iter().map(|m| (m.name, m.calls.iter().collect())).collect();
    let reaches = |from: &str, to: &str| {
        let (mut open, mut seen) = (vec![from], Vec::new());
        while let Some(next) = open.pop() {
            if next == to {
                return true;
            }
            if !seen.contains(&next) {
                seen.push(next);
                open.extend(calls.get(next).into_iter().flatten().map(|c| c.service));
            }
        }
        false
    };
    let edges = inputs.manifests.iter().flat_map(|m| m.calls.iter().map(move |c| (m.name, c)));
    let closing = edges.filter(|(name, call)| reaches(call.service, name));
    closing
        .map(|(name, c)| {
            Finding::at(
                inputs.in_service(name, c.operation),
                format!("{name} calls {}, which calls it back", c.service),
            )
        })
        .collect()
}

fn asks_auth(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for manifest in inputs.manifests.iter().filter(|m| m.name != "auth") {
        for call in manifest.calls.iter().filter(|c| c.service == "auth") {
            let what = format!(
                "{} asks auth at request time; decide on the identity that comes with the request",
                manifest.name
            );
            found.push(Finding::at(inputs.in_service(manifest.name, call.operation), what));
        }
    }
    let offered = |path: &str| {
        let auth = inputs.manifests.iter().find(|m| m.name == "auth");
        auth.is_some_and(|m| m.routes.iter().any(|r| r.path == path && path.matches('/').count() > 1))
    };
    for (service, file) in inputs.service_code().filter(|(service, _)| *service != "auth") {
        for literal in file.source().shipped_literals().filter(|l| offered(&l.text)) {
            found.push(Finding::new(&*file.path, literal.line, format!("{service} names {} of auth", literal.text)));
        }
    }
    found
}
