"""The Metaflow tasks of one try: which there are, which have a result, and how the others are run."""
