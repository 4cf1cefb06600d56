"""What differs between the supported releases of Airflow; the only fork point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow import __version__

_RELEASE = tuple(int(part) for part in __version__.split(".")[:2])
AIRFLOW_V_3_2_PLUS = _RELEASE >= (3, 2)
AIRFLOW_V_3_3_PLUS = _RELEASE >= (3, 3)

if TYPE_CHECKING or AIRFLOW_V_3_2_PLUS:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
else:
    from airflow.configuration import conf
    from airflow.exceptions import AirflowFailException, AirflowSkipException

__all__ = ["AIRFLOW_V_3_2_PLUS", "AIRFLOW_V_3_3_PLUS", "AirflowFailException", "AirflowSkipException", "conf"]
