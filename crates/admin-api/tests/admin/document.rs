//! The OpenAPI document itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::World;

/// Every operation as path, method and description.
pub fn operations() -> Vec<(String, String, Value)> {
    let document = serde_json::to_value(admin_api::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(target) if name == "$ref" => {
                        found.insert(target);
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[actix_web::test]
async fn is_the_same_on_every_call_and_served() {
    let text = admin_api::openapi().to_pretty_json().unwrap();
    assert_eq!(admin_api::openapi().to_pretty_json().unwrap(), text);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let world = World::new().await;
    assert_eq!(world.get("/admin/v1/openapi.json").await.expect(200), document);
}

#[test]
fn every_reference_resolves() {
    let document = serde_json::to_value(admin_api::openapi()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40);
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

#[test]
fn every_operation_is_named_described_and_guarded() {
    let operations = operations();
    assert!(operations.len() > 45, "{}", operations.len());
    let mut names = BTreeSet::new();
    for (path, method, operation) in &operations {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{name}");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
        let roles = &operation["security"][0]["operator_token"];
        assert!(method == "get" || roles[0] == "full", "{name}: {roles}");
        assert!(roles[0] == "full" || roles[0] == "read_only", "{name}: {roles}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("401"), "{name}");
        assert_eq!(responses.contains_key("403"), roles[0] == "full", "{name}");
        assert_eq!(
            responses.contains_key("404"),
            path.contains('{') || method != "get",
            "{name}"
        );
        let in_path: Vec<_> = path.match_indices('{').collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path.len(), described, "{name}");
    }
}

#[test]
fn inputs_refuse_unknown_fields_and_money_is_text() {
    let document = serde_json::to_value(admin_api::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (path, method, operation) in operations() {
        let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else {
            continue;
        };
        let name = schema.as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!(schemas[name]["additionalProperties"], false, "{method} {path}: {name}");
    }
    for (name, schema) in schemas {
        if let Some(row) = name.strip_prefix("Page_") {
            let items = &schema["properties"]["data"]["items"];
            assert_eq!(items["$ref"], format!("#/components/schemas/{row}"), "{name}");
        }
        let Some(fields) = schema["properties"].as_object() else {
            continue;
        };
        for (field, schema) in fields {
            let target = schema["$ref"].as_str().unwrap_or_default();
            if field.ends_with("_usd") {
                assert_eq!(target, "#/components/schemas/Usd", "{name}.{field}");
            }
            if field.ends_with("_at") {
                assert!(
                    schema.to_string().contains("#/components/schemas/Instant"),
                    "{name}.{field}: {schema}"
                );
            }
        }
    }
}
