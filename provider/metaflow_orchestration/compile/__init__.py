"""From a flow file to its manifest: the compiler and its cache. Parts of it run inside Metaflow's own command line."""
