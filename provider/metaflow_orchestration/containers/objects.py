"""Objects of other systems, in the form in which those systems read them.

Their fields are not ours: which there are, and what they mean, is in the references of the two APIs.
"""

from __future__ import annotations

from typing import Any

KubernetesObject = dict[str, Any]
"""An object of the Kubernetes API, or a part of one, as its JSON (https://kubernetes.io/docs/reference/)."""

BatchObject = dict[str, Any]
"""A structure of the AWS Batch API, as boto3 expects it (``RegisterJobDefinition``, ``SubmitJob``)."""
