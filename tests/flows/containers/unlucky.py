from metaflow import S3, FlowSpec, Parameter, current, step


class UnluckyFlow(FlowSpec):
    """Its join fails until there is an object of the name that is wished for."""

    wish = Parameter("wish", default="luck")

    @step
    def start(self):
        self.items = [1, 2]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.made_by = current.run_id
        self.next(self.join)

    @step
    def join(self, inputs):
        self.made_by = [one.made_by for one in inputs]
        with S3(s3root="s3://flows/unlucky/") as store:
            if not store.get(self.wish, return_missing=True).exists:
                raise ValueError("no luck")
        self.wished = self.wish
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    UnluckyFlow()
