//! Finds fields that a document has and its CRD's schema lacks, as `kubectl apply --validate=strict` does.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_yaml::Value;

/// A field that the schema lacks.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Its path, for example `spec.source.hst`.
    pub path: String,
    /// The field that was probably meant.
    pub meant: Option<String>,
    /// Every field there is at this place.
    pub known: Vec<String>,
}

impl UnknownField {
    /// What is wrong and the way out.
    pub fn message(&self) -> String {
        match &self.meant {
            Some(meant) => format!("unknown field; did you mean `{meant}`?"),
            None => format!("unknown field; there are {}", self.known.join(", ")),
        }
    }
}

/// All fields of `document` that the schema of `crd` lacks.
pub fn unknown_fields(document: &Value, crd: &CustomResourceDefinition) -> Vec<UnknownField> {
    let mut found = Vec::new();
    let schema = crd.spec.versions.first().and_then(|v| v.schema.as_ref()).and_then(|s| s.open_api_v3_schema.as_ref());
    let (Some(map), Some(properties)) = (document.as_mapping(), schema.and_then(|s| s.properties.as_ref())) else {
        return found;
    };
    for (key, value) in map {
        match key.as_str() {
            Some("apiVersion" | "kind" | "metadata" | "status") => {}
            Some(key) => match properties.get(key) {
                Some(schema) => walk(value, schema, key, &mut found),
                None => {
                    let known: Vec<String> = ["apiVersion", "kind", "metadata", "spec"].map(str::to_owned).to_vec();
                    found.push(UnknownField { path: key.to_owned(), meant: nearest(key, &known), known });
                }
            },
            None => {}
        }
    }
    found
}

fn walk(value: &Value, schema: &JSONSchemaProps, path: &str, found: &mut Vec<UnknownField>) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let Some(key) = key.as_str() else { continue };
                let path = format!("{path}.{key}");
                match (&schema.properties, &schema.additional_properties) {
                    (Some(properties), _) => match properties.get(key) {
                        Some(schema) => walk(value, schema, &path, found),
                        None => {
                            let known: Vec<String> = properties.keys().cloned().collect();
                            found.push(UnknownField { path, meant: nearest(key, &known), known });
                        }
                    },
                    (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => walk(value, schema, &path, found),
                    _ => {}
                }
            }
        }
        Value::Sequence(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    walk(item, schema, &format!("{path}[{index}]"), found);
                }
            }
        }
        _ => {}
    }
}

/// The known name closest to `name`, when it is close enough to be a slip.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let lower = name.to_lowercase();
    known
        .iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4) && *distance < candidate.len())
        .map(|(_, candidate)| candidate.clone())
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = (diagonal + usize::from(x != *y)).min(*above + 1).min(left + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The line of a field in block style: the first line of the document that begins with its last name, at the depth of its path.
pub fn line_of(text: &str, document: usize, path: &str) -> Option<usize> {
    let mut names = path.split('.').map(|name| name.split('[').next().unwrap_or(name)).peekable();
    names.peek().filter(|name| !name.is_empty())?;
    let mut number = 1;
    let mut content = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("---") {
            // A separator before any content opens the first document.
            number += usize::from(content);
            content = true;
            continue;
        }
        let key = line.trim_start_matches([' ', '-']);
        content |= !key.is_empty() && !key.starts_with('#');
        if number != document {
            continue;
        }
        let name = names.peek()?;
        if key.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':')) {
            names.next();
            if names.peek().is_none() {
                return Some(index + 1);
            }
        }
    }
    None
}
