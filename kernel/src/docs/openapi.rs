//! One OpenAPI 3.1 document per service, from its route table and its handlers' types.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::manifest::{Access, Manifest, OperationShape, Repeat, RouteDoc};

/// The OpenAPI document of one service.
pub fn openapi(title: &str, manifest: &Manifest) -> Value {
    // One generator for the whole document: otherwise shared types are inlined again and again.
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in &manifest.routes {
        let operation = operation(route, manifest, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation;
    }
    let mut schemas = Map::from_iter(generator.take_definitions(true));
    schemas.insert("Problem".into(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {"title": format!("{title}: {}", manifest.name), "description": manifest.purpose, "version": "1.0.0"},
        "servers": [{"url": "/"}],
        "tags": [{"name": manifest.name, "description": manifest.purpose}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    })
}

fn operation(route: &RouteDoc, manifest: &Manifest, generator: &mut SchemaGenerator) -> Value {
    let shape = (route.shape)(generator);
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [manifest.name],
        "responses": responses(route, &shape, manifest),
        "x-access": access(route.access),
    });
    let mut parameters = named(shape.path.as_ref(), "path");
    parameters.extend(named(shape.query.as_ref(), "query"));
    if route.repeat == Repeat::Keyed {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": true,
            "description": "A new random value for a new request; the same one when the request is repeated.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
        }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some((media, schema)) = shape.body {
        operation["requestBody"] = json!({"required": true, "content": {media: {"schema": schema}}});
    }
    if !matches!(route.access, Access::Anyone(_)) {
        operation["security"] = json!([{"token": []}]);
    }
    operation
}

fn access(access: Access) -> String {
    match access {
        Access::Anyone(why) => format!("anyone: {why}"),
        Access::SignedIn => "any signed-in caller".into(),
        Access::May(permission) => permission.name.into(),
        Access::Workload => "services of the city".into(),
    }
}

/// The fields of a parameter struct as single parameters.
fn named(schema: Option<&schemars::Schema>, place: &str) -> Vec<Value> {
    let Some(object) = schema.map(schemars::Schema::as_value) else { return Vec::new() };
    let required = |name: &str| object["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
    let Some(properties) = object["properties"].as_object() else { return Vec::new() };
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|s| s.remove("description"));
        let mut parameter =
            json!({"name": name, "in": place, "required": place == "path" || required(name), "schema": schema});
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.iter().map(parameter).collect()
}

fn responses(route: &RouteDoc, shape: &OperationShape, manifest: &Manifest) -> Value {
    let mut responses = Map::new();
    for (status, media, schema) in &shape.answers {
        let description = if *status < 400 { route.summary } else { meaning(*status) };
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({"description": description}));
        if !media.is_empty() {
            response["content"][*media] = schema.as_ref().map_or_else(|| json!({}), |schema| json!({"schema": schema}));
        }
    }
    for status in refusal_statuses(route, shape, manifest) {
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({"description": meaning(status)}));
        response["content"]["application/problem+json"] = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
    }
    Value::Object(responses)
}

fn refusal_statuses(route: &RouteDoc, shape: &OperationShape, manifest: &Manifest) -> Vec<u16> {
    let mut statuses = vec![400, 404, 429, 500, 503, 504];
    if !matches!(route.access, Access::Anyone(_)) {
        statuses.extend([401, 403]);
    }
    if shape.body.is_some() {
        statuses.extend([413, 415, 422]);
    }
    match route.repeat {
        Repeat::Reads => {}
        Repeat::Keyed => statuses.extend([409, 422]),
        Repeat::Protocol(_) => statuses.push(401),
    }
    if route.repeat != Repeat::Reads {
        statuses.extend(manifest.refusals.iter().map(|r| r.status));
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn meaning(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused")
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457: what is wrong and what to do.",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable; see the refusals page."},
            "detail": {"type": "string"}, "trace_id": {"type": "string"},
            "errors": {"type": "array", "items": {"type": "object", "properties": {
                "pointer": {"type": "string"}, "message": {"type": "string"}}}},
        },
    })
}
