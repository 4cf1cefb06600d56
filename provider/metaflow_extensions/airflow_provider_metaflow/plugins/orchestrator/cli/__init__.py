"""The command groups ``airflow``, ``argo`` and ``sfn`` of ``python flow.py``. Loaded when flows are deployed."""
