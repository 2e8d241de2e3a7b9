use std::fmt::Write;

use anyhow::Context;

use crate::api;

/// Prints every CustomResourceDefinition.
pub fn run() -> anyhow::Result<()> {
    print!("{}", yaml()?);
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
