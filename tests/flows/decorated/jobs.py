from metaflow import FlowSpec, batch, parallel, resources, retry, step, timeout

EVERYTHING = {
    "cpu": 2,
    "memory": 3000,
    "gpu": 1,
    "image": "registry.example.org/team/image:2",
    "queue": "arn:aws:batch:eu-west-1:123456789012:job-queue/big",
    "iam_role": "arn:aws:iam::123456789012:role/steps",
    "execution_role": "arn:aws:iam::123456789012:role/execution",
    "shared_memory": 128,
    "max_swap": 512,
    "swappiness": 40,
    "efa": 1,
    "host_volumes": ["/data", "/srv/models:/models"],
    "efs_volumes": ["fs-1", "fs-2:/shared"],
    "use_tmpfs": True,
    "tmpfs_tempdir": False,
    "tmpfs_size": 256,
    "tmpfs_path": "/fast",
    "aws_batch_tags": {"team": "ml", "cost-center": "7"},
    "log_driver": "awslogs",
    "log_options": ["awslogs-group:/flows", "awslogs-stream-prefix:steps"],
    "executable": "python3.11",
    "privileged": True,
}

FARGATE = "arn:aws:batch:eu-west-1:123456789012:job-queue/fargate"


class JobsFlow(FlowSpec):
    """Every attribute of @batch on one step and on a gang, and a bare @batch with @resources."""

    @retry(times=2, minutes_between_retries=1)
    @timeout(minutes=10)
    @batch(**EVERYTHING)
    @step
    def start(self):
        self.items = list(range(3))
        self.next(self.accelerated, foreach="items")

    @batch(inferentia=2)
    @step
    def accelerated(self):
        self.next(self.collect)

    @batch(ephemeral_storage=40, queue=FARGATE, execution_role="arn:aws:iam::123456789012:role/execution")
    @step
    def collect(self, inputs):
        self.next(self.fan)

    @resources(cpu=4, memory=8000, gpu=2, shared_memory=32)
    @batch
    @step
    def fan(self):
        self.next(self.train, num_parallel=4)

    @retry(times=1, minutes_between_retries=3)
    @batch(**EVERYTHING)
    @parallel
    @step
    def train(self):
        self.next(self.gather)

    @batch(image="image:1", trainium=1)
    @step
    def gather(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    JobsFlow()
