"""The real Argo Events that the tests start flows by: its controller, a webhook, and a NATS server as the bus."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .argo import Argo
from .controllers import create, load, ours
from .kubernetes import NAMESPACE

_SYSTEM = "argo-events"
_PUBLISH = "import json, sys; from metaflow.integrations import ArgoEvent; name, payload = sys.argv[1:]; "
_PUBLISH += "print(ArgoEvent(name).publish(json.loads(payload), force=True, ignore_errors=False))"


@contextmanager
def argo_events(argo: Argo) -> Iterator[Argo]:
    """Install Argo Events beside Argo; yield Argo with Metaflow's settings for it."""
    cluster = argo.cluster
    image, objects = load("argo-events")
    for one in ours(objects, image):
        if one["kind"] == "Deployment":
            (container,) = one["spec"]["template"]["spec"]["containers"]
            settings = {"ARGO_EVENTS_IMAGE": image, "IMAGE_PULL_POLICY": "Never"}
            kept = [setting for setting in container["env"] if setting["name"] not in settings]
            container["env"] = kept + [{"name": name, "value": value} for name, value in settings.items()]
    create(cluster, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _SYSTEM}}])
    create(cluster, objects, namespace=_SYSTEM)
    create(cluster, list(_own(image)))
    cluster.kubectl("-n", _SYSTEM, "rollout", "status", "deployment", "--timeout=180s")
    argo.wait_until(lambda: _running(argo, "eventsource-name=webhook"), timeout=120)
    address = cluster.get("services", "-l", "eventsource-name=webhook")[0]["spec"]["clusterIP"]
    settings = {
        "METAFLOW_ARGO_EVENTS_EVENT": "metaflow-event",
        "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "webhook",
        "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "sensor",
        "METAFLOW_ARGO_EVENTS_WEBHOOK_URL": f"http://{address}:12000/metaflow-event",
        "METAFLOW_ARGO_EVENTS_INTERNAL_WEBHOOK_URL": f"http://{address}:12000/metaflow-event",
    }
    try:
        yield replace(argo, environment={**argo.environment, **settings})
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "sensors,eventsources,eventbus", "--all", check=False)
        argo.clean()


def wait_for_sensor(argo: Argo, name: str) -> None:
    """Wait until a sensor listens."""
    argo.wait_until(lambda: _running(argo, f"sensor-name={name}"), timeout=120)
    argo.wait_until(lambda: "Sensor started" in _log(argo, name), timeout=60)


def publish(argo: Argo, event: str, payload: str) -> str:
    """Publish an event by Metaflow's own `ArgoEvent`; return its id."""
    environment = {**os.environ, **argo.environment}
    command = [sys.executable, "-c", _PUBLISH, event, payload]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _running(argo: Argo, selector: str) -> bool:
    pods = argo.cluster.get("pods", "-l", selector)
    return bool(pods) and all(one["status"]["phase"] == "Running" for one in pods)


def _log(argo: Argo, sensor: str) -> str:
    return argo.cluster.kubectl("-n", NAMESPACE, "logs", "-l", f"sensor-name={sensor}", "--tail=-1", check=False)


def _own(image: str) -> Iterator[dict[str, Any]]:
    secret, key = _certificate()
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "nats", "namespace": _SYSTEM},
        "data": {"tls.crt": secret, "tls.key": key},
    }
    yield from yaml.safe_load_all(_OBJECTS.replace("IMAGE", image))


def _certificate() -> tuple[str, str]:
    """Return a certificate and its key: clients of the bus take any, but no bus without."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nats")])
    now = datetime.fromtimestamp(time.time(), UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return base64.b64encode(made.public_bytes(pem)).decode(), base64.b64encode(private).decode()


_OBJECTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: nats, namespace: argo-events}
spec:
  selector: {matchLabels: {app: nats}}
  template:
    metadata: {labels: {app: nats}}
    spec:
      containers:
      - name: nats
        image: IMAGE
        imagePullPolicy: Never
        command: [/bin/nats-server, -js, -sd, /tmp/js, --tls, --tlscert, /tls/tls.crt, --tlskey, /tls/tls.key]
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: nats}}]
---
apiVersion: v1
kind: Service
metadata: {name: nats, namespace: argo-events}
spec: {selector: {app: nats}, ports: [{port: 4222}]}
---
apiVersion: argoproj.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: flows}
spec: {jetstreamExotic: {url: "nats://nats.argo-events.svc:4222", streamConfig: "replicas: 1"}}
---
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: webhook, namespace: flows}
spec:
  service: {ports: [{port: 12000, targetPort: 12000}]}
  webhook:
    metaflow-event: {endpoint: /metaflow-event, method: POST, port: "12000"}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sensor, namespace: flows}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: sensor, namespace: flows}
rules: [{apiGroups: [argoproj.io], resources: [workflows], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: sensor, namespace: flows}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: sensor}
subjects: [{kind: ServiceAccount, name: sensor, namespace: flows}]
"""
