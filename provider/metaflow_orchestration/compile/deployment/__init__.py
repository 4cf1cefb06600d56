"""Makes the manifest of a deployment inside Metaflow's own command line. Imports Metaflow."""
