"""One try of a task instance of a step. Loaded when a task runs, not when a DAG file is parsed."""
