"""Provider metadata. Runs in every Airflow process, so it imports nothing."""


def get_provider_info():  # type: ignore[no-untyped-def]
    """Return the metadata of ``provider.yaml``, which a test keeps equal to it."""
    return {
        "package-name": "airflow-provider-metaflow",
        "name": "Metaflow",
        "description": "Run `Metaflow <https://metaflow.org/>`__ flows as first-class Airflow DAGs.\n",
        "integrations": [
            {"integration-name": "Metaflow", "external-doc-url": "https://docs.metaflow.org/", "tags": ["software"]}
        ],
        "operators": [
            {
                "integration-name": "Metaflow",
                "python-modules": [
                    "airflow_provider_metaflow.operators.step",
                    "airflow_provider_metaflow.operators.splits",
                    "airflow_provider_metaflow.operators.run",
                    "airflow_provider_metaflow.operators.artifact",
                    "airflow_provider_metaflow.operators.exit_hook",
                ],
            }
        ],
        "hooks": [{"integration-name": "Metaflow", "python-modules": ["airflow_provider_metaflow.hooks.metaflow"]}],
        "sensors": [{"integration-name": "Metaflow", "python-modules": ["airflow_provider_metaflow.sensors.metaflow"]}],
        "triggers": [
            {"integration-name": "Metaflow", "python-modules": ["airflow_provider_metaflow.triggers.metaflow"]}
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_metaflow.hooks.metaflow.MetaflowHook",
                "hook-name": "Metaflow",
                "connection-type": "metaflow",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "extra"],
                    "relabeling": {
                        "host": "Metadata service host",
                        "schema": "Metadata service scheme",
                        "password": "Metadata service API key",
                    },
                    "placeholders": {"host": "metadata.example.com", "schema": "https", "port": "8080"},
                },
                "conn-fields": {
                    "headers": {
                        "label": "Service headers (JSON)",
                        "description": "Headers of requests to the metadata service, as a JSON object.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "datastore_root": {
                        "label": "Datastore root",
                        "description": "Where runs keep their data: s3://…, gs://…, an Azure container, or a folder.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "profile": {
                        "label": "Profile",
                        "description": "Metaflow profile of the worker.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "namespace": {
                        "label": "Namespace",
                        "description": "Namespace that runs are looked for in, e.g. production:token; empty: all.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
        "extra-links": [
            "airflow_provider_metaflow.links.metaflow.MetaflowRunLink",
            "airflow_provider_metaflow.links.metaflow.MetaflowCardsLink",
        ],
        "notifications": ["airflow_provider_metaflow.notifications.run.MetaflowRunNotifier"],
        "config": {
            "metaflow": {
                "description": "Metaflow steps on Airflow workers.",
                "options": {
                    "cache_folder": {
                        "description": "Folder for compiled manifests and unpacked code packages, which only the user "
                        "of Airflow may enter; empty: metaflow-cache-UID in Airflow's home.\n",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/cache/airflow-metaflow",
                        "default": "",
                    },
                    "cache_limit_megabytes": {
                        "description": "How large the cache may grow; what was not used for longest is removed "
                        "first.\n",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "1024",
                        "default": "4096",
                    },
                    "python": {
                        "description": "Interpreter of the steps and of the compiler; empty: Airflow's own.\n",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/flows/bin/python",
                        "default": "",
                    },
                    "warm_process": {
                        "description": "Keep a process that has imported Metaflow between tasks, and fork each step "
                        "from it; empty: True, but in a worker pod of the KubernetesExecutor, which runs one task.\n",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "",
                    },
                    "warm_process_idle_seconds": {
                        "description": "After how many seconds without a task such a process exits.\n",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "60",
                    },
                    "ui_url": {
                        "description": "Address of the Metaflow UI, for links; empty: METAFLOW_UI_URL of the worker.\n",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "https://metaflow.example.com",
                        "default": "",
                    },
                },
            }
        },
    }
