"""The configuration reference: environment variables and the section ``[metaflow]`` of Airflow's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable, which Metaflow's configuration file may hold as well.

    :param name: its name.
    :param default: what counts without it.
    :param meaning: what it sets.
    """

    name: str
    default: str
    meaning: str


_POD = "Default of this argument of the pod operator, read when the flow is deployed; `MetaflowDag(kubernetes={…})` overrides it."
VARIABLES = (
    Variable("METAFLOW_AIRFLOW_URL", "", "Address of Airflow's API server, e.g. `https://airflow.example.com`. The commands that talk to Airflow need it."),
    Variable("METAFLOW_AIRFLOW_USERNAME", "", "User name for the log-in at `/auth/token`."),
    Variable("METAFLOW_AIRFLOW_PASSWORD", "", "Password of that user."),
    Variable("METAFLOW_AIRFLOW_TOKEN", "", "Bearer token, used instead of user name and password."),
    Variable("METAFLOW_AIRFLOW_AUTH_COMMAND", "", "Command that prints a bearer token; it runs again when a token has expired."),
    Variable("METAFLOW_AIRFLOW_VERIFY", "true", "Whether TLS certificates are checked."),
    Variable("METAFLOW_AIRFLOW_CA_FILE", "", "File of certificates to trust."),
    Variable("METAFLOW_AIRFLOW_PATIENCE", "60", "For how many seconds a request is repeated after a lost connection or an answer 429 or 5xx."),
    Variable("METAFLOW_AIRFLOW_DAGS_FOLDER", "`$AIRFLOW_HOME/dags`", "Folder, or prefix of a DAG bundle (`s3://…`, `gs://…`), that `create` writes to if it is given no FILE."),
    Variable("METAFLOW_AIRFLOW_KUBERNETES_CONN_ID", "", f"`kubernetes_conn_id`. {_POD}"),
    Variable("METAFLOW_AIRFLOW_KUBERNETES_KUBECONFIG_FILE", "", f"`config_file`. {_POD}"),
    Variable("METAFLOW_AIRFLOW_KUBERNETES_KUBECONFIG_CONTEXT", "", f"`cluster_context`. {_POD}"),
    Variable("METAFLOW_AIRFLOW_KUBERNETES_STARTUP_TIMEOUT_SECONDS", "", f"`startup_timeout_seconds`. {_POD}"),
    Variable("METAFLOW_ADAPTERS_REPLACE_STOCK", "", "With `1`, the command groups `argo` and `sfn` also stand under the names of Metaflow's own groups, `argo-workflows` and `step-functions`. Environment only."),
)  # fmt: skip


def page() -> str:
    """Return the page in Markdown."""
    from airflow_provider_metaflow.get_provider_info import get_provider_info

    options: dict[str, dict[str, Any]] = get_provider_info()["config"]["metaflow"]["options"]  # type: ignore[no-untyped-call]
    lines = [
        "# Configuration reference",
        "",
        "Generated from the code of this version.",
        "",
        "## Airflow: section `[metaflow]`",
        "",
        (
            "Set them in `airflow.cfg`, or by `AIRFLOW__METAFLOW__KEY` in the environment of Airflow's components. They are read on"
            " workers, DAG processors, API servers and triggerers."
        ),
        "",
        "| key | default | meaning |",
        "|---|---|---|",
        *(f"| `{key}` | {_code(one['default'])} | {_meaning(one)} |" for key, one in options.items()),
        "",
        "## Environment variables",
        "",
        (
            "Set them where you run `python flow.py airflow …` or `metaflow-airflow`. Like every `METAFLOW_…` setting they may"
            " also stand in Metaflow's configuration file, `~/.metaflowconfig/config.json`, and in a profile (`METAFLOW_PROFILE`)."
        ),
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
        *(f"| `{one.name}` | {_code(one.default)} | {one.meaning} |" for one in VARIABLES),
        "",
        "## Metaflow's own settings",
        "",
        (
            "A deployment records the settings of Metaflow that its tasks need: datastore and its root, metadata service, image,"
            " namespace of Kubernetes, queue and roles of AWS Batch. So they must be set where you deploy. What each Airflow"
            " component needs is on the page [Security](security.md#which-process-needs-what); all settings are in"
            " [Metaflow's documentation](https://docs.metaflow.org/getting-started/infrastructure)."
        ),
        "",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    return "" if not text else text if text.startswith("`") else f"`{text}`"


def _meaning(option: dict[str, Any]) -> str:
    text = str(option["description"]).strip()
    return f"{text} Example: `{option['example']}`." if option.get("example") else text
