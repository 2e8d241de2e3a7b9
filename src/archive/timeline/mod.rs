//! What can be restored.
