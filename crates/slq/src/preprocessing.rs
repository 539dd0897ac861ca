//! Preprocessing stored in a model's file, as the property `slq.preprocessing`.

use slq_data::Transform;
use slq_graph::Graph;

use crate::Error;

const KEY: &str = "slq.preprocessing";

/// The preprocessing stored in the model's file, if any.
///
/// # Errors
/// [`Error::Preprocessing`] where the property is there and cannot be understood.
pub fn stored(graph: &Graph) -> Result<Option<Transform>, Error> {
    let Some(text) = graph.metadata.properties.get(KEY) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|e| Error::Preprocessing(e.to_string()))
}

/// Stores `transform` in the model, so that its file holds it.
pub fn store(graph: &mut Graph, transform: &Transform) {
    if let Ok(text) = serde_json::to_string(transform) {
        graph.metadata.properties.insert(KEY.into(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        let mut graph = Graph::default();
        assert_eq!(stored(&graph).unwrap(), None);
        let transform = Transform { mean: vec![0.5], mirror: true, ..Transform::default() };
        store(&mut graph, &transform);
        assert_eq!(stored(&graph).unwrap(), Some(transform));
        graph.metadata.properties.insert(KEY.into(), "[]x".into());
        assert!(matches!(stored(&graph), Err(Error::Preprocessing(_))));
    }
}
