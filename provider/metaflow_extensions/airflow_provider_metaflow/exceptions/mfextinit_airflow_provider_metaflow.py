"""Names the modules of this extension for which ``metaflow develop stubs install`` makes stubs.

Metaflow makes stubs for the modules that its own modules refer to, which no extension without a `toplevel` module is
among. What is defined here is loaded into ``metaflow.exception``, and Metaflow makes stubs for that. (A `toplevel`
module would serve, too, but it makes Metaflow report this extension in its version.)
"""

_HERE = "metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.deployer"
_addl_stubgen_modules = [_HERE + ".airflow_deployer", _HERE + ".argo_deployer", _HERE + ".sfn_deployer"]
