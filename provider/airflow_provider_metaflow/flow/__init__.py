"""From a flow file to a manifest, and from a manifest to Metaflow commands."""
