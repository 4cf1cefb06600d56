from metaflow import FlowSpec, kubernetes, parallel, resources, retry, step, timeout

EVERYTHING = {
    "cpu": 2,
    "memory": 3000,
    "disk": 5000,
    "image": "registry.example.org/team/image:2",
    "image_pull_policy": "Always",
    "image_pull_secrets": ["registry-login"],
    "service_account": "steps",
    "secrets": ["database", "service-keys"],
    "node_selector": {"kubernetes.io/os": "linux", "pool": "big"},
    "namespace": "flows",
    "gpu": 1,
    "gpu_vendor": "amd",
    "tolerations": [{"key": "arch", "operator": "Equal", "value": "amd", "effect": "NoSchedule"}],
    "labels": {"team": "ml"},
    "annotations": {"example.org/note": "a note"},
    "use_tmpfs": True,
    "tmpfs_tempdir": False,
    "tmpfs_size": 256,
    "tmpfs_path": "/fast",
    "persistent_volume_claims": {"models": "/mnt/models", "cache": "/mnt/cache"},
    "shared_memory": 128,
    "port": 8123,
    "compute_pool": "gpus",
    "executable": "python3.11",
    "hostname_resolution_timeout": 120,
    "qos": "Guaranteed",
    "extended_resources": {"example.org/fpga": 2},
    "security_context": {
        "privileged": False,
        "allow_privilege_escalation": False,
        "run_as_user": 1000,
        "run_as_group": 2000,
        "run_as_non_root": True,
    },
}


class PodsFlow(FlowSpec):
    """Every attribute of @kubernetes on one step and on a gang, and a bare @kubernetes with @resources."""

    @retry(times=2, minutes_between_retries=1)
    @timeout(minutes=10)
    @kubernetes(**EVERYTHING)
    @step
    def start(self):
        self.next(self.train, num_parallel=4)

    @retry(times=1, minutes_between_retries=3)
    @kubernetes(**EVERYTHING)
    @parallel
    @step
    def train(self):
        self.next(self.gather)

    @resources(cpu=4, memory=8000, gpu=2, shared_memory=32)
    @kubernetes
    @step
    def gather(self, inputs):
        self.next(self.end)

    @kubernetes(image="image:1", qos="Burstable")
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PodsFlow()
