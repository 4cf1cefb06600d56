"""Provider metadata. Runs in every Airflow process, so it imports nothing."""


def get_provider_info():  # type: ignore[no-untyped-def]
    """Return the metadata of ``provider.yaml``, which a test keeps equal to it."""
    return {
        "package-name": "airflow-provider-metaflow",
        "name": "Metaflow",
        "description": "Run `Metaflow <https://metaflow.org/>`__ flows as first-class Airflow DAGs.\n",
        "integrations": [
            {
                "integration-name": "Metaflow",
                "external-doc-url": "https://docs.metaflow.org/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "Metaflow",
                "python-modules": [
                    "airflow_provider_metaflow.operators.step",
                    "airflow_provider_metaflow.operators.splits",
                ],
            }
        ],
        "config": {
            "metaflow": {
                "description": "Metaflow steps on Airflow workers.",
                "options": {
                    "cache_folder": {
                        "description": "Folder for compiled manifests and unpacked code packages; empty: a folder "
                        "of this user in the system's temporary folder.\n",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/cache/airflow-metaflow",
                        "default": "",
                    },
                    "python": {
                        "description": "Interpreter of the steps and of the compiler; empty: Airflow's own.\n",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/flows/bin/python",
                        "default": "",
                    },
                    "warm_process": {
                        "description": "Keep a process that has imported Metaflow between tasks, and fork each "
                        "step from it.\n",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "warm_process_idle_seconds": {
                        "description": "After how many seconds without a task such a process exits.\n",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "60",
                    },
                },
            }
        },
    }
