use std::fmt::Write;

use anyhow::Context;

use crate::api;
use crate::cli::output::say;

/// Prints every CustomResourceDefinition.
pub fn run() -> anyhow::Result<()> {
    say!("{}", yaml()?.trim_end());
    Ok(())
}

/// Every CustomResourceDefinition as one YAML stream.
pub fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for crd in api::crds() {
        let document = serde_yaml::to_string(&crd).context("cannot print a CustomResourceDefinition")?;
        write!(text, "---\n{document}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;

    use super::*;

    /// `make crds` writes the files: it runs this test with `TIDEMARK_WRITE_CRDS=1`.
    #[test]
    fn the_files_in_crds_and_in_the_chart_are_what_the_types_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        // Helm reads no file outside its chart.
        let folders = ["crds", "charts/tidemark/files/crds"];
        for (folder, crd) in folders.iter().flat_map(|folder| api::crds().into_iter().map(move |crd| (folder, crd))) {
            let path = root.join(folder).join(format!("{}.yaml", crd.name_any()));
            let generated = serde_yaml::to_string(&crd).unwrap();
            if std::env::var_os("TIDEMARK_WRITE_CRDS").is_some() {
                std::fs::write(&path, &generated).unwrap();
            }
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(stored == generated, "{} is out of date: run `make crds`", path.display());
        }
    }

    #[test]
    fn every_field_has_a_description_and_every_schema_is_structural() {
        fn walk(path: &str, schema: &serde_json::Value) {
            assert!(schema.get("oneOf").is_none() && schema.get("anyOf").is_none(), "{path}: not structural");
            assert!(
                schema.get("properties").is_none() || schema.get("additionalProperties").is_none(),
                "{path}: properties and additionalProperties exclude each other"
            );
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                assert!(field["description"].as_str().is_some_and(|text| text.len() > 5), "{path} has no description");
                walk(&path, field);
            }
            if let Some(items) = schema.get("items") {
                walk(&format!("{path}[]"), items);
            }
        }
        for crd in api::crds() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            for part in ["spec", "status"] {
                walk(&format!("{}.{part}", crd.name_any()), &schema["openAPIV3Schema"]["properties"][part]);
            }
        }
    }
}
