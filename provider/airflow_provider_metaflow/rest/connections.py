"""Connections of Airflow, where secrets are kept."""

from __future__ import annotations

from .client import AirflowClient, NotFoundError, path_of


def save_connection(client: AirflowClient, connection_id: str, conn_type: str, *, password: str, text: str) -> None:
    """Make a connection, or replace the one of that id.

    :param client: the Airflow.
    :param connection_id: its id.
    :param conn_type: type of connection.
    :param password: the secret.
    :param text: description.
    """
    body = {"connection_id": connection_id, "conn_type": conn_type, "password": password, "description": text}
    try:
        client.request("PATCH", path_of("connections", connection_id), json=body)
    except NotFoundError:
        client.request("POST", "/connections", json=body)


def delete_connection(client: AirflowClient, connection_id: str) -> bool:
    """Delete a connection; return whether there was one.

    :param client: the Airflow.
    :param connection_id: its id.
    """
    try:
        client.request("DELETE", path_of("connections", connection_id))
    except NotFoundError:
        return False
    return True
